"""Refresh the S&P 500."""

from scripts.command import JSON, Command, Option

COMMAND = Command(
    main="scripts.data.constituents:main",
    description="An implausible list is refused.",
    options=(
        Option(
            name="SOURCE",
            meaning=(
                "online, offline (the package pytickersymbols), or auto: online if it can be reached (default: auto)"
            ),
            metavar="auto|online|offline",
            words=("auto", "online", "offline"),
        ),
        Option(name="URL", meaning="another address of the online list", metavar="URL"),
        Option(name="FILE", meaning="another file to write", metavar="FILE"),
        Option(name="CHECK", meaning="only show what would change", is_flag=True),
        JSON,
    ),
    needs_clone=True,
)
