"""Remove what commands left in out/."""

from scripts.command import JSON, Command, Option

COMMAND = Command(
    main="scripts.run.clean:main",
    description=(
        "Removes the pages, the log, the documentation site, and the paper account and journal that ACCOUNT_FILE and"
        " JOURNAL name. Keeps and lists everything else in out/: the cache of Yahoo's prices, the results of sweeps,"
        " and files of your own. Asks before it deletes the records of a real Alpaca account."
    ),
    options=(
        Option(name="ALL", meaning="delete everything in out/", is_flag=True),
        Option(name="CONFIRM", meaning="answer the question beforehand: yes", metavar="yes", words=("yes",)),
        JSON,
    ),
    settings=lambda: ("JOURNAL", "ACCOUNT_FILE"),
    combines=True,
)
