"""Results that outlive a sweep: JSON lines, written as results arrive and found by a hash of their inputs."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from scripts.backtest.model import BacktestError
from scripts.files import SWEEP, writing


def identity(*what: object) -> str:
    """Return the name of a result: a hash of everything it depends on, as JSON; other values are hashed as text."""
    text = json.dumps(what, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Store:
    """A file of results by name. An incomplete last line is cut off and counts as never written."""

    def __init__(self, path: Path) -> None:
        """Read the stored results. Raises UnwritableError on a file error, and BacktestError for an invalid line."""
        self._path = path
        self._kept: dict[str, Any] = {}
        with writing(path):
            content = path.read_bytes() if path.exists() else b""
            whole = content[: content.rfind(b"\n") + 1]
            if whole != content:
                with path.open("r+b") as file:
                    file.truncate(len(whole))
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                entry = json.loads(line)
                self._kept[entry["name"]] = entry["result"]
            except (ValueError, TypeError, KeyError) as error:
                raise BacktestError(
                    f"{path}, line {number}: this is not a result of a sweep ({error}); "
                    "remove the line, or start over with FRESH=1"
                ) from error

    def __contains__(self, name: str) -> bool:
        return name in self._kept

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - any JSON value
        return self._kept[name]

    def results(self) -> list[Any]:
        """Return all results, in the order of the file."""
        return list(self._kept.values())

    def keep(self, name: str, result: object, **about: object) -> None:
        """Append a result to the file at once; `about` has further fields for human readers."""
        line = json.dumps({"name": name, **about, "result": result}, allow_nan=False) + "\n"
        with writing(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                file.write(line.encode())
        self._kept[name] = result


@contextmanager
def folder(out: Path, *, fresh: bool) -> Iterator[Path]:
    """Yield the folder of a sweep's results, locked for this process; `fresh` deletes the earlier results.

    Raises BacktestError if another sweep is using it.
    """
    path = out / SWEEP
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path / ".lock", timeout=0)
    with writing(path / ".lock"):
        try:
            lock.acquire()
        except Timeout:
            raise BacktestError(
                f"another sweep is writing to {path}; wait for it, or choose another folder with OUT="
            ) from None
    try:
        if fresh:
            with writing(path):
                (path / "results.jsonl").unlink(missing_ok=True)
                shutil.rmtree(path / "forecasts", ignore_errors=True)
        yield path
    finally:
        lock.release()
