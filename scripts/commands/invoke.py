"""Run a deployed function."""

from scripts.command import CLOUD, JSON, Command, Option

COMMAND = Command(
    main="scripts.cloud.invoke:main",
    description="Calls the function once, as a schedule would, and shows its answer and its log.",
    options=(
        Option(name="STRATEGY", meaning="the strategy's name; needed if there are several", metavar="NAME"),
        Option(name="EVENT", meaning="the event: a JSON object, or a file that contains one", metavar="JSON|FILE"),
        *CLOUD,
        JSON,
    ),
)
