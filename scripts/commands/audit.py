"""Audit the packages."""

from scripts.command import Command, Option

COMMAND = Command(
    main="scripts.checks.audit:main",
    description="Exits with 1 after a finding, and with 3 if a check could not be made.",
    options=(Option(name="OFFLINE", meaning="check the lock files alone", is_flag=True),),
    combines=True,
    needs_clone=True,
)
