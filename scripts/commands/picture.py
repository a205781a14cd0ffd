"""Draw the pictures."""

from scripts.command import Command

COMMAND = Command(
    main="scripts.checks.development:draw_pictures",
    description="Draws docs/run.png and docs/backtest.png.",
    combines=True,
    needs_clone=True,
)
