"""Try random inputs."""

from scripts.command import Command, Option

COMMAND = Command(
    main="scripts.checks.development:fuzz",
    description="Tests files, events, settings and the journal with random input.",
    options=(
        Option(name="EXAMPLES", meaning="examples of each kind (default: 2000)", metavar="NUMBER"),
        Option(name="SEED", meaning="the seed (default: random)", metavar="NUMBER"),
    ),
    combines=True,
    needs_clone=True,
)
