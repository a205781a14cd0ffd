"""Draw the pictures."""

from scripts.command import Command

COMMAND = Command(
    main="scripts.checks.development:draw_pictures",
    description="Draws docs/images/run.png, backtest.png, report.png and recording.svg.",
    combines=True,
    needs_clone=True,
)
