"""Hold a process and all it starts to a share of one processor, as Lambda does by memory: 1,769 MB are a whole one.

Like the kernel's own quotas: in each period of 20 ms they may use so much processor time, waiting costs nothing, and
whoever has used it up stands still until the next. Done with signals, so it needs no privilege and no cgroup. It is a
process of its own (`python -m scripts.cloud.throttle PID SHARE`), because whoever measures is busy.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

PERIOD_S = 0.02
LOOK_S = 0.001
MB_PER_PROCESSOR = 1_769


def share_of(memory_mb: int) -> float:
    """The share of a processor that Lambda gives a function of so much memory."""
    return memory_mb / MB_PER_PROCESSOR


@contextmanager
def throttled(pid: int, share: float) -> Iterator[None]:
    """While the block lasts, what `pid` has started and will start gets that share; `pid` itself is not counted."""
    command = [sys.executable, "-m", "scripts.cloud.throttle", str(pid), str(share)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None, "asked for above"
        process.stdout.readline()  # it has begun
        try:
            yield
        finally:
            process.terminate()


def main() -> None:
    """Throttle until told to end, or until the process is gone; nobody is left standing still."""
    pid, share = int(sys.argv[1]), float(sys.argv[2])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this ends it
    print(flush=True)
    try:
        throttle(pid, share)
    finally:
        tell(descendants(pid), signal.SIGCONT)


def throttle(pid: int, share: float) -> None:
    """Let the descendants use `share` of each period; what they took too much is taken off the next."""
    used, budget_s = Used(), 0.0
    while Path(f"/proc/{pid}").exists():
        end = time.monotonic() + PERIOD_S
        budget_s = min(budget_s, 0.0) + share * PERIOD_S
        members = descendants(pid)
        if budget_s > 0:
            tell(members, signal.SIGCONT)
        while (left_s := end - time.monotonic()) > 0:
            if budget_s <= 0:
                time.sleep(left_s)
                break
            time.sleep(min(LOOK_S, left_s))
            budget_s -= used.since_last(members)
            if budget_s <= 0:
                tell(descendants(pid), signal.SIGSTOP)


class Used:
    """Processor time, seconds, of processes that come and go."""

    def __init__(self) -> None:
        self._by_pid: dict[int, float] = {}

    def since_last(self, pids: Sequence[int]) -> float:
        """What these have used since they were last looked at, or since they began."""
        total_s = 0.0
        for pid in pids:
            with contextlib.suppress(OSError):  # it has ended
                now_s = time.clock_gettime(clock_of(pid))
                total_s += now_s - self._by_pid.get(pid, 0.0)
                self._by_pid[pid] = now_s
        return total_s


def clock_of(pid: int) -> int:
    """The kernel's clock of the processor time of all threads of a process, see clock_getcpuclockid(3)."""
    return (~pid << 3) | 2


def descendants(pid: int) -> Sequence[int]:
    """All that a process has started, and what those have."""
    found: list[int] = []
    for thread in threads(pid):
        with contextlib.suppress(OSError):
            for child in (thread / "children").read_text().split():
                found += [int(child), *descendants(int(child))]
    return found


def threads(pid: int) -> Sequence[Path]:
    """The threads of a process; none if it is gone."""
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []


def tell(pids: Sequence[int], what: signal.Signals) -> None:
    """Send a signal to those that are still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, what)


if __name__ == "__main__":
    main()
