"""Alpaca's HTTP API, which the broker and a price source share."""
