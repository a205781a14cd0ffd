"""Rebuild the sample prices and their index."""

from scripts.command import Command, Option

COMMAND = Command(
    main="scripts.data.sample_prices:main",
    description="The same version of its source always gives the same bytes.",
    options=(
        Option(
            name="DATASET",
            meaning="skfolio's sp500_dataset.csv.gz, with sp500_index.csv.gz beside it (default: from PyPI)",
            metavar="FILE",
        ),
        Option(name="OUTPUT", meaning="another file to write, with the index beside it", metavar="FILE"),
    ),
    needs_clone=True,
)
