"""Invent bars within the sample's days."""

from scripts.command import Command, Option

COMMAND = Command(
    main="scripts.data.made_bars:main",
    description=(
        "Writes 15-minute bars that wander at random from one daily close of the sample to the next: to try "
        "DECIDE_EVERY, and not to judge a strategy. The same days always give the same bytes."
    ),
    options=(
        Option(name="START", meaning="the first day (default: 2022-12-19)", metavar="DAY"),
        Option(name="END", meaning="the last day (default: 2022-12-28)", metavar="DAY"),
        Option(name="OUTPUT", meaning="the file to write (default: out/made_bars.csv)", metavar="FILE"),
    ),
)
