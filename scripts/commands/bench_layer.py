"""A benchmark."""

from scripts.command import JSON, Command, Option

COMMAND = Command(
    main="scripts.bench.layers:main",
    description=(
        "Targets are ratios, measured in one run. Exits with 1 if one is missed, and says if the machine was busy."
    ),
    options=(
        Option(
            name="ARCH",
            meaning="the processor of the Lambda function (default: x86_64)",
            metavar="ARCH",
            words=("x86_64", "arm64"),
        ),
        Option(
            name="PYTHON",
            meaning="the Python of the Lambda function (default: 3.13)",
            metavar="VERSION",
            words=("3.13", "3.14"),
        ),
        JSON,
    ),
    needs_clone=True,
)
