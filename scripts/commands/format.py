"""Format the code."""

from scripts.command import Command

COMMAND = Command(
    main="scripts.checks.development:format_code",
    description="Runs ruff.",
    combines=True,
    needs_clone=True,
)
