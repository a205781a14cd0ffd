"""Verify the layer."""

from scripts.command import JSON, Command, Option

COMMAND = Command(
    main="scripts.layer.verify:main",
    description=(
        "Runs the function from the finished layer, as Lambda would. Exits with 3 if the layer is faulty or "
        "cannot be run here."
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
