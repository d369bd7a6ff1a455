"""Programs that run as jobs, anywhere: they import none of our packages."""
