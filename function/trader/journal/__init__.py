"""The journal: what is kept of each run, and where."""
