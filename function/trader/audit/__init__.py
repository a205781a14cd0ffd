"""The audit of a run's record: what follows from its inputs, decided again; and the caps, checked a second time."""
