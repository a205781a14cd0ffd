"""Build the map engine's compiled search."""

from scripts.command import Command

COMMAND = Command(
    main="scripts.data.kernel:main",
    description=(
        "The libraries for Linux, macOS and Windows and their checksums, from function/trader/forecasting/map/compiled/"
        "search.c. The same source always gives the same bytes. The compiler comes from PyPI (100 MB)."
    ),
    needs_clone=True,
)
