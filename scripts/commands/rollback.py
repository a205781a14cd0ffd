"""Go back to an older version."""

from scripts.command import CLOUD, JSON, Command, Option

COMMAND = Command(
    main="scripts.cloud.rollback:main",
    description="Moves the function's alias, which schedules call, to an older version, at once and without Terraform.",
    options=(
        Option(name="STRATEGY", meaning="the strategy's name; needed if there are several", metavar="NAME"),
        Option(name="VERSION", meaning="the version's number (default: the one before)", metavar="NUMBER"),
        Option(name="LIVE", meaning="allow a version that trades real money", is_flag=True),
        *CLOUD,
        JSON,
    ),
)
