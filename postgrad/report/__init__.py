"""The report of a run: `write` makes it, from the evidence and by section."""
