"""Set up .venv."""

from scripts.command import Command

COMMAND = Command(
    main="scripts.checks.development:show_setup",
    description="Says which Python is set up.",
    combines=True,
    needs_clone=True,
)
