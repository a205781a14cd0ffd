"""Look for look-ahead."""

from scripts.command import JSON, Command, Option
from scripts.commands.backtest import OPTIONS, backtest_settings

COMMAND = Command(
    main="scripts.backtest.lookahead:main",
    description=(
        "Cuts off the future at every bar: nothing before the cut may change. Planted leaks must be caught. "
        "Exits with 1 if a check fails."
    ),
    options=(
        *OPTIONS,
        Option(name="CUTS", meaning="cut at this many random bars instead of at every bar", metavar="NUMBER"),
        Option(name="SEED", meaning="choose other random bars", metavar="NUMBER"),
        JSON,
    ),
    settings=backtest_settings,
)
