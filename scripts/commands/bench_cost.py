"""Measure a month's use."""

from scripts.command import JSON, Command
from scripts.commands.cost import ESTIMATE

COMMAND = Command(
    main="scripts.bench.memories:main",
    description=(
        "Both engines, from 512 MB to a whole processor, with and without brackets. Exits with 1 if a target is missed "
        "or Terraform's memory is not the cheapest, and with 3 if others use the machine too much to tell."
    ),
    options=(
        *ESTIMATE,
        JSON,
    ),
    needs_clone=True,
)
