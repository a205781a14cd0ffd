"""Build the documentation."""

from scripts.command import Command, Option

COMMAND = Command(
    main="scripts.docs.__main__:main",
    description=(
        "Generates the reference from the code and builds the site strictly: a broken link or a missing page is an "
        "error. The backtest in the reader's browser needs npm and the network the first time."
    ),
    options=(
        Option(name="CHECK", meaning="only list generated pages that are not up to date", is_flag=True),
        Option(name="BROWSER", meaning="0: leave out the backtest in the browser", metavar="1|0", words=("1", "0")),
        Option(name="OUT", meaning="the folder in which site/ is built (default: out)", metavar="FOLDER"),
    ),
    combines=True,
    needs_clone=True,
)
