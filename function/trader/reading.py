"""Reading: questions to outside services whose answers do not depend on each other, asked in turn or side by side."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from threading import Thread
from typing import Protocol

from trader.logs import HoldingFilter, describe_error, one_line
from trader.model import BrokerError

LOG = logging.getLogger("trader")

ROUND_TRIP_S = 0.5
"""The longest that an answer may wait until it is asked for, and so about a round trip; an older one is read again."""

_NUMBERS = count(1)


class Begin(Protocol):
    """Begin a read, and return the function that returns its answer or raises its error; to be called at most once."""

    def __call__[T](self, read: Callable[[], T], /) -> Callable[[], T]:
        """Begin the read."""


type Reading = Callable[[], AbstractContextManager[Begin]]
"""How to read: `in_turn` or `side_by_side`. No read goes on after the block, unless a person has interrupted it."""


@contextmanager
def in_turn() -> Iterator[Begin]:
    """Carry out each read when its answer is asked for; one that nobody asks for is not carried out."""

    def begin[T](read: Callable[[], T], /) -> Callable[[], T]:
        return read

    yield begin


@contextmanager
def side_by_side() -> Iterator[Begin]:
    """Carry out each read at once, in a thread of its own.

    Answers are to be asked for in the order in which `in_turn` should read: each is then as fresh as if it had been
    read in turn, but for ROUND_TRIP_S. What the threads log is logged in that order too, when the answer is asked for.
    The error of a read that nobody asks for is logged at the end. If no thread can be started, a read is carried out
    when its answer is asked for, as by `in_turn`: a machine that is short of threads must protect the holdings, too.
    Ctrl-C is not held up by an answer that does not come: what follows, such as protection, asks anew.
    """
    records = HoldingFilter()
    reads: list[_Read[object]] = []

    def begin[T](read: Callable[[], T], /) -> Callable[[], T]:
        begun = _Read(read, records)
        try:
            begun.start()
        except RuntimeError as error:
            LOG.warning("a read is carried out in turn", extra={"error": str(error)})
            return read
        reads.append(begun)  # type: ignore[arg-type]  # their answers are not touched through the list
        return begun.answer

    with records.installed():
        try:
            yield begin
        except KeyboardInterrupt:
            reads.clear()
            raise
        finally:
            for each in reads:
                each.finish()


class _Read[T]:
    """A read in a thread, and how it ended."""

    def __init__(self, read: Callable[[], T], records: HoldingFilter) -> None:
        self._read = read
        self._records = records
        self._answers: list[T] = []
        self._error: BaseException | None = None
        self._is_asked_for = False
        self._ended_at = 0.0  # monotonic
        self._thread = Thread(target=self._carry_out, name=f"read {next(_NUMBERS)}", daemon=True)

    def start(self) -> None:
        """Begin the read. Raises RuntimeError if no thread can be started."""
        self._thread.start()

    def _carry_out(self) -> None:
        self._records.hold(self._thread.name)
        try:
            self._answers.append(self._read())
        except BaseException as error:  # it is raised where the answer is asked for
            self._error = error
        self._ended_at = time.monotonic()

    def answer(self) -> T:
        """Return the answer, or raise the error; an answer that has waited for too long is read again."""
        self._is_asked_for = True
        self._join()
        if self._error is not None:
            raise self._error
        if time.monotonic() - self._ended_at > ROUND_TRIP_S:
            return self._read()
        return self._answers[0]

    def finish(self) -> None:
        """Wait for the end, and log the error if nobody has asked for the answer."""
        self._join()
        if self._error is None or self._is_asked_for:
            return
        is_expected = isinstance(self._error, BrokerError)
        LOG.log(
            logging.WARNING if is_expected else logging.ERROR,
            "a read that was not needed any more has failed",
            extra={"error": one_line(describe_error(self._error))},
            exc_info=None if is_expected else self._error,
        )

    def _join(self) -> None:
        self._thread.join()
        self._records.release(self._thread.name)
