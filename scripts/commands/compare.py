"""Compare a backtest with runs."""

from scripts.command import JSON, Command
from scripts.commands.backtest import OPTIONS, backtest_settings

COMMAND = Command(
    main="scripts.backtest.compare:main",
    description=(
        "Runs the same days through the code of a run and through the backtest: every insight, order and dollar"
        " must match. Exits with 1 if one differs."
    ),
    options=(
        *OPTIONS,
        JSON,
    ),
    settings=backtest_settings,
)
