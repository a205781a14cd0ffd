"""A benchmark."""

from scripts.command import JSON, TARGET, Command

COMMAND = Command(
    main="scripts.bench.layers:main",
    description=(
        "Compares bytes, imports and init. Targets are ratios, measured in one run. Exits with 1 if one is missed,"
        " and says if the machine was busy."
    ),
    options=(
        *TARGET,
        JSON,
    ),
    needs_clone=True,
)
