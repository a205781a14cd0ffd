"""Progress of long-running work."""

from collections.abc import Callable

type Progress = Callable[[str, int, int], None]
"""A callback that receives the name of the current work, the steps done and the total number of steps."""


def no_progress(work: str, done: int, total: int) -> None:
    """Ignore the progress, as runs outside a terminal do."""
