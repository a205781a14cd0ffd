"""Print the digest of a day."""

from scripts.command import CLOUD, JSON, Command, Option, every_setting

COMMAND = Command(
    main="scripts.owner.digest:main",
    description=(
        "Prints what the digest of a day says: equity, trades with their reasons, refusals, what needs you, and "
        "whether each decision comes out the same again. Nothing is kept or sent. The exit code is 1 if a decision "
        "differs."
    ),
    options=(
        Option(name="DAY", meaning="a day such as 2026-11-27 (default: that of the latest record)", metavar="DAY"),
        Option(name="DEPLOYED", meaning="a deployed strategy, which STRATEGY names if there are several", is_flag=True),
        *CLOUD,
        JSON,
    ),
    settings=every_setting,
)
