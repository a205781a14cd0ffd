"""Stop trading."""

from scripts.command import CLOUD, JSON, Command, Option

COMMAND = Command(
    main="scripts.cloud.halt:halt",
    description="Sets the halt switches in SSM. A run looks at its switch before each order.",
    options=(
        Option(name="STRATEGY", meaning="only this strategy (default: all)", metavar="NAME"),
        *CLOUD,
        JSON,
    ),
)
