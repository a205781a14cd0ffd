"""Look for look-ahead."""

from scripts.command import JSON, Command, Option
from scripts.commands.backtest import OPTIONS, backtest_settings

COMMAND = Command(
    main="scripts.lookahead.run:main",
    description=(
        "Runs again on files that end early: nothing before their end may change. Leaks are planted and must be"
        " caught. Exits with 1 if a check fails."
    ),
    options=(
        *OPTIONS,
        Option(name="CUTS", meaning="end the prices at this many bars, spread over the span", metavar="NUMBER"),
        Option(name="SEED", meaning="choose other bars", metavar="NUMBER"),
        JSON,
    ),
    settings=backtest_settings,
)
