"""Brokers: who holds the account and takes the orders."""
