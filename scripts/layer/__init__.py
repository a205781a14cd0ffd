"""The Lambda layer: built from locked wheels, made small, and proven in AWS's own runtime interface."""
