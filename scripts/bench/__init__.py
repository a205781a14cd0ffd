"""Benchmarks that compare alternatives by ratios measured in one run."""
