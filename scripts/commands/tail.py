"""Follow the log."""

from scripts.command import CLOUD, JSON, Command, Option

COMMAND = Command(
    main="scripts.cloud.tail:main",
    description="Prints records as they arrive, until Ctrl-C.",
    options=(
        Option(name="STRATEGY", meaning="one or several, separated by commas (default: all)", metavar="NAMES"),
        Option(
            name="SINCE", meaning="from: an age such as 30m, 6h, 1d or 2w, or a time (default: 10m)", metavar="TIME"
        ),
        Option(name="FOLLOW", meaning="0: print what is there, and end", metavar="1|0", words=("1", "0")),
        *CLOUD,
        JSON,
    ),
)
