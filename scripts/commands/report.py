"""Report on a period."""

from scripts.command import CLOUD, JSON, RECORDED_RULE, Command, Option, every_setting

COMMAND = Command(
    main="scripts.owner.report:main",
    description=(
        "Says how a strategy did against a benchmark, what it bought and sold and why, what it holds and with which "
        "stop, and what it refused or missed: from the journal and the broker's orders, without changing anything. "
        "Decides each slot again, and splits what lies between live and this test by cause. The exit code is 1 if a "
        "decision is not the one recorded."
    ),
    options=(
        Option(name="SINCE", meaning="from: an age such as 30d or 26w, or a time (default: 90d)", metavar="TIME"),
        Option(
            name="BENCHMARK",
            meaning="a symbol, or the path of a price file (default: SPY; on the sample, its S&P 500 index)",
            metavar="SYMBOL",
        ),
        Option(name="DEPLOYED", meaning="a deployed strategy, which STRATEGY names if there are several", is_flag=True),
        Option(name="FORECASTS", meaning="fit every recorded forecast again, too, which takes long", is_flag=True),
        RECORDED_RULE,
        *CLOUD,
        JSON,
    ),
    settings=every_setting,
)
