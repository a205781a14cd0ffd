"""Build the layer."""

from scripts.command import JSON, Command, Option

COMMAND = Command(
    main="scripts.layer.build:main",
    description=(
        "Builds layer/dist/layer-ARCH-PYTHON.zip from locked wheels, without Docker, and runs the function from"
        " it before it is accepted."
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
    combines=True,
    needs_clone=True,
)
