"""The stages of one run, in the order that pipeline.py gives them."""
