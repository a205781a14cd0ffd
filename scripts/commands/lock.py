"""Lock the requirements."""

from scripts.command import Command

COMMAND = Command(
    main="scripts.checks.development:lock",
    description="Writes requirements/ and layer/requirements.txt anew.",
    combines=True,
    needs_clone=True,
)
