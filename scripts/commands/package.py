"""Zip the function."""

from scripts.command import JSON, Command

COMMAND = Command(
    main="scripts.layer.package:main",
    description="Writes the zip of the function, the same to the byte each time.",
    options=(JSON,),
    combines=True,
    needs_clone=True,
)
