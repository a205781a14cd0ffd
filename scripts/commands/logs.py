"""Query the logs."""

from scripts.command import CLOUD, JSON, Command, Option

COMMAND = Command(
    main="scripts.cloud.logs:main",
    description="Runs one of the queries of terraform/queries; without QUERY it lists them.",
    options=(
        Option(name="QUERY", meaning="the query's name", metavar="NAME"),
        Option(name="STRATEGY", meaning="one or several, separated by commas (default: all)", metavar="NAMES"),
        Option(name="SINCE", meaning="from: an age such as 30m, 6h, 1d or 2w, or a time (default: 1d)", metavar="TIME"),
        Option(name="UNTIL", meaning="until: an age or a time (default: now)", metavar="TIME"),
        Option(name="LIMIT", meaning="rows at most", metavar="NUMBER"),
        Option(name="DETAILS", meaning="show all that was logged of each failure, and each refusal", is_flag=True),
        *CLOUD,
        JSON,
    ),
    needs_clone=True,
)
