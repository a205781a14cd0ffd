"""Check the code."""

from scripts.command import Command

COMMAND = Command(
    main="scripts.checks.development:lint",
    description="Runs ruff, mypy and import-linter.",
    combines=True,
    needs_clone=True,
)
