"""Export a year."""

from scripts.command import CLOUD, JSON, Command, Option, every_setting

COMMAND = Command(
    main="scripts.export.export:main",
    description=(
        "Writes a year's fills, lots with short and long term, possible wash sales, dividends and fees as CSV files, "
        "and compares them with the journal and with the account's cash. Exits with 1 if something does not add up."
    ),
    options=(
        Option(name="YEAR", meaning="the year in New York (default: the present one)", metavar="YEAR"),
        Option(name="OUT", meaning="the folder for the files (default: out/export/STRATEGY-YEAR)", metavar="FOLDER"),
        Option(name="DEPLOYED", meaning="a deployed strategy, which STRATEGY names if there are several", is_flag=True),
        *CLOUD,
        JSON,
    ),
    settings=every_setting,
)
