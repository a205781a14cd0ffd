"""What is kept of each run, and where."""
