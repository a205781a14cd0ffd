"""The map engine: the most probable parameters of Prophet's model, for many symbols at once."""
