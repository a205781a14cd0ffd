"""Try many settings."""

from scripts.command import JSON, Command, Option
from scripts.commands.backtest import OPTIONS, backtest_settings

COMMAND = Command(
    main="scripts.sweep.run:main",
    description=(
        "Splits the days into parts, chooses the best setting on one part and judges it on the next, against "
        "the default and the median. Results are kept in out/sweep, so that an interrupted sweep goes on where "
        "it stopped."
    ),
    options=(
        *OPTIONS,
        Option(
            name="GRID",
            meaning=(
                "settings with their values: 'HISTORY_BARS=120,250 MAX_ORDER_USD=5000,9000', or a range such as "
                "HISTORY_BARS=120..500 with SAMPLES"
            ),
            metavar="GRID",
        ),
        Option(name="SAMPLES", meaning="draw this many settings from the grid", metavar="NUMBER"),
        Option(name="SEED", meaning="draw other settings (default: 1)", metavar="NUMBER"),
        Option(name="FOLDS", meaning="judge this many times (default: 3)", metavar="NUMBER"),
        Option(name="METRIC", meaning="what the best setting is the best at (default: sharpe_ratio)", metavar="METRIC"),
        Option(name="WORKERS", meaning="processes on this machine (default: one a core)", metavar="NUMBER"),
        Option(
            name="SCHEDULER",
            meaning="a Dask cluster's address: tcp://127.0.0.1:8786, or tls://host:8786",
            metavar="ADDRESS",
        ),
        Option(name="FRESH", meaning="compute everything again", is_flag=True),
        JSON,
    ),
    settings=backtest_settings,
)
