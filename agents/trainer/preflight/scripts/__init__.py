"""Programs that run in a job's own environment: they import none of our packages."""
