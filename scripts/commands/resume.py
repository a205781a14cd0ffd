"""Trade again."""

from scripts.command import CLOUD, JSON, Command, Option

COMMAND = Command(
    main="scripts.cloud.halt:resume",
    description="Sets the halt switches in SSM to false.",
    options=(
        Option(name="STRATEGY", meaning="the strategy, or all", metavar="NAME"),
        *CLOUD,
        JSON,
    ),
)
