"""Run the quick tests."""

from scripts.command import Command

COMMAND = Command(
    main="scripts.checks.development:run_fast_tests",
    description="Takes less than half a minute.",
    combines=True,
    needs_clone=True,
)
