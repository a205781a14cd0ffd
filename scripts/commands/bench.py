"""Measure how fast the bot is."""

from scripts.command import JSON, TARGET, Command, Option

CASES = (
    *("all", "run", "sample", "backtest", "growth", "forecasts", "engine", "files", "yahoo"),
    *("report", "sweep", "scale", "usual", "layer", "bill", "peers", "tests"),
)
"""The words of CASES. A test compares them with scripts/bench/cases.py, whose import would slow down every command."""

COMMAND = Command(
    main="scripts.bench.main:main",
    description=(
        "What is compared is measured in one run, in turns. Each case is shown with the load of the machine and kept "
        "as out/bench/CASE.json. Exits with 1 if a target is missed, and with 3 if one cannot be judged, because "
        "others use the machine or because something is missing."
    ),
    options=(
        Option(
            name="CASES",
            meaning="what to measure, separated by commas (default: all that take no more than some minutes together)",
            metavar="NAMES",
            words=CASES,
            is_list=True,
        ),
        Option(name="OUT", meaning="the folder for results (default: out)", metavar="FOLDER"),
        Option(
            name="BASELINE",
            meaning="also measure run and sample at this commit, in turns (default: none)",
            metavar="COMMIT",
        ),
        Option(
            name="PAGE",
            meaning=(
                "show what was measured in docs/explanation/performance.md and the READMEs (then: make docs), "
                "without the cases that a busy machine has slowed down, or with them"
            ),
            metavar="1|busy",
            words=("1", "busy"),
        ),
        *TARGET,
        JSON,
    ),
    needs_clone=True,
)
