"""Brokers, which hold the account and accept orders."""
