"""Write a rule of one's own."""

from scripts.command import JSON, Command, Option

COMMAND = Command(
    main="scripts.rules.write:main",
    description=(
        "Writes rules/NAME.py, a rule that works, to be changed into one of your own, and its test in rules/tests. "
        "SIGNAL=rules/NAME.py uses it in a run, a backtest and a sweep. A file that is there already is left alone."
    ),
    options=(Option(name="NAME", meaning="the rule's name, such as golden_cross", metavar="NAME"), JSON),
)
