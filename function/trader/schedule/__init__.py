"""When to run: slots, and the sessions of the exchange."""
