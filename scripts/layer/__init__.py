"""The Lambda layer: built from locked wheels, reduced in size, and verified in AWS's own runtime interface."""
