"""Measure a month's use."""

from scripts.command import CLOUD, JSON, Command
from scripts.commands.cost import ESTIMATE

COMMAND = Command(
    main="scripts.cloud.cost:bench",
    description="Exits with 1 if 30 strategies would not fit into Lambda's free tier.",
    options=(
        *ESTIMATE,
        *CLOUD,
        JSON,
    ),
    needs_clone=True,
)
