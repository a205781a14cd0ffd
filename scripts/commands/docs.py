"""Build the documentation."""

from scripts.command import Command

COMMAND = Command(
    main="scripts.docs.__main__:main",
    description="Builds the site strictly: a broken link or a missing page is an error.",
    combines=True,
    needs_clone=True,
)
