"""Run the gauntlet."""

from scripts.command import JSON, Command, Option

COMMAND = Command(
    main="tests.fault_injection.__main__:main",
    description=(
        "Needs the layer. Exits with 1 if an invariant does not hold, or if docs/explanation/reliability.md differs "
        "from the run."
    ),
    options=(
        Option(name="LONG", meaning="more random weeks", is_flag=True),
        Option(name="SEED", meaning="other random weeks (default: 1)", metavar="NUMBER"),
        Option(name="MARKDOWN", meaning="print the tables for docs/explanation/reliability.md", is_flag=True),
        JSON,
    ),
    combines=True,
    needs_clone=True,
)
