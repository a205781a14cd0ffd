"""Compare journal and broker."""

from scripts.command import CLOUD, JSON, Command, Option, every_setting

COMMAND = Command(
    main="scripts.run.reconcile:main",
    description=(
        "Compares what the journal says with the broker's orders, and writes the records of runs that were cut "
        "off. Exits with 1 if they differ."
    ),
    options=(
        Option(name="STRATEGY", meaning="the strategy's name; needed if there are several", metavar="NAME"),
        Option(name="SINCE", meaning="from: an age such as 30m, 6h, 1d or 2w, or a time (default: 7d)", metavar="TIME"),
        Option(
            name="LOCAL",
            meaning="the journal and the account of this machine, with the settings of make run",
            is_flag=True,
        ),
        *CLOUD,
        JSON,
    ),
    settings=every_setting,
)
