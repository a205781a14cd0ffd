"""Look for keys."""

from scripts.command import Command

COMMAND = Command(
    main="scripts.checks.scan_secrets:main",
    description="Exits with 1 after a finding.",
    combines=True,
    needs_clone=True,
)
