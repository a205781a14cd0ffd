"""Check a rule of one's own."""

from scripts.command import JSON, Command

COMMAND = Command(
    main="scripts.rules.run:main",
    description=(
        "Runs a rule of your own in processes that reach nothing, on real and on awkward prices, and says what was"
        " checked: types and values, the same result each time, nothing kept between slots, no future, no file,"
        " network, clock or chance, packages that the layer has, time and memory. Exits with 1 if a check fails."
        " make deploy takes only rules that passed as they are. RULE_NAME=value sets a parameter of the rule."
    ),
    options=(JSON,),
    settings=lambda: ("SIGNAL",),
)
