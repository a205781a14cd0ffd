"""The schedule: slots, and the sessions of the exchange."""
