"""Verify the layer."""

from scripts.command import JSON, TARGET, Command

COMMAND = Command(
    main="scripts.layer.verify:main",
    description=(
        "Runs the function from the finished layer, as Lambda would. Exits with 3 if the layer is faulty or "
        "cannot be run here."
    ),
    options=(
        *TARGET,
        JSON,
    ),
    combines=True,
    needs_clone=True,
)
