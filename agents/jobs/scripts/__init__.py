"""Programs that run around jobs, anywhere: they import none of our packages."""
