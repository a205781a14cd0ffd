"""The journal: the records of runs, and the stores that hold them."""
