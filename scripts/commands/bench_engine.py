"""A benchmark."""

from scripts.command import JSON, Command

COMMAND = Command(
    main="scripts.bench.engines:main",
    description=(
        "Measures time, memory and a whole backtest. Targets are ratios, measured in one run. Exits with 1 if one "
        "is missed, and says if the machine was busy."
    ),
    options=(JSON,),
    needs_clone=True,
)
