"""Rebuild Terraform's files."""

from scripts.command import Command, Option

COMMAND = Command(
    main="scripts.checks.terraform_files:main",
    description="To be run after a setting or a variable of Terraform has changed.",
    options=(
        Option(
            name="CHECK",
            meaning="only list the files that are not up to date; exit with 1 if there are any",
            is_flag=True,
        ),
    ),
    combines=True,
    needs_clone=True,
)
