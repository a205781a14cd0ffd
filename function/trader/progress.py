"""Progress: how far a long piece of work has come."""

from collections.abc import Callable

type Progress = Callable[[str, int, int], None]
"""Called with the name of the work under way, the steps done and the steps in all."""


def no_progress(work: str, done: int, total: int) -> None:
    """Say nothing: what a run outside a terminal uses."""
