"""The stages of one run; pipeline.py runs them in order."""
