"""Run the slow tests."""

from scripts.command import Command

COMMAND = Command(
    main="scripts.checks.development:run_slow_tests",
    description="Plants bugs, damages layers, and runs Terraform's own tests.",
    combines=True,
    needs_clone=True,
)
