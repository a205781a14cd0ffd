"""Refresh the S&P 500."""

from scripts.command import JSON, Command, Option

COMMAND = Command(
    main="scripts.data.constituents:main",
    description=(
        "Those of today are for the bot, those of each day since 1996 for backtests. An implausible list is refused."
    ),
    options=(
        Option(
            name="SOURCE",
            meaning=(
                "online, offline (the package pytickersymbols), or auto: online if it can be reached (default: auto)"
            ),
            metavar="auto|online|offline",
            words=("auto", "online", "offline"),
        ),
        Option(name="URL", meaning="another address of the online list of today", metavar="URL"),
        Option(name="FILE", meaning="another file of today's members", metavar="FILE"),
        Option(
            name="MEMBERS_URL",
            meaning="another address of the online members by day: a folder with the two files of fja05680/sp500",
            metavar="URL",
        ),
        Option(
            name="MEMBERS_FILE",
            meaning="another file of the members by day; with FILE and without this, they are left as they are",
            metavar="FILE",
        ),
        Option(name="CHECK", meaning="only show what would change", is_flag=True),
        JSON,
    ),
    needs_clone=True,
)
