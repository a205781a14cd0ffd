"""Run the tests."""

from scripts.command import Command, Option

COMMAND = Command(
    main="scripts.checks.development:run_tests",
    description="Runs all tests but the slow ones.",
    options=(
        Option(
            name="TESTS", meaning="arguments of pytest instead, such as tests/unit/trader -k stop", metavar="ARGUMENTS"
        ),
    ),
    combines=True,
    needs_clone=True,
)
