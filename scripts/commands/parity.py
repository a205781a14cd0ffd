"""Compare the engines."""

from scripts.command import JSON, Command, Option

COMMAND = Command(
    main="scripts.bench.parity:main",
    description=(
        "One formula computes the log posterior of both engines' models. Exits with 1 if map's is worse anywhere."
    ),
    options=(
        Option(name="WINDOWS", meaning="windows per row (default: 10)", metavar="NUMBER"),
        Option(name="SYMBOLS", meaning="symbols to compare (default: 20)", metavar="NUMBER"),
        Option(name="BARS", meaning="omit rows with more bars", metavar="BARS", words=("120", "250", "500", "1000")),
        Option(name="PICTURE", meaning="draw the differences as a chart in this SVG file", metavar="FILE"),
        JSON,
    ),
    needs_clone=True,
)
