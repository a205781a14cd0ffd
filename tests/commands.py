"""Commands called in the tests' own process, as make calls them."""

from collections.abc import Callable, Sequence
from itertools import zip_longest

import pytest

type Command = Callable[..., tuple[int, str, str]]
"""A call with arguments and environment variables; it returns the exit code, the output and the errors."""


def in_process(
    main: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    is_joined: bool = True,
) -> Command:
    """Wrap a command's `main`. If `is_joined`, its output and its errors become one line each.

    Arguments are given to it as the command line does: --max-rows 5 as MAX_ROWS=5, and a flag as 1.
    """

    def call(*arguments: str, **variables: str) -> tuple[int, str, str]:
        with monkeypatch.context() as patched:
            for name, value in {**as_variables(arguments), **variables}.items():
                patched.setenv(name, value)
            try:
                main()
                code = 0
            except SystemExit as end:
                code = int(end.code or 0)
        said = capsys.readouterr()
        if not is_joined:
            return code, said.out, said.err
        return code, " ".join(said.out.split()), " ".join(said.err.split())

    return call


def as_variables(arguments: Sequence[str]) -> dict[str, str]:
    """Return the variables that mean the same as some arguments."""
    made: dict[str, str] = {}
    for word, following in zip_longest(arguments, arguments[1:], fillvalue="--"):
        if word.startswith("--"):
            made[word[2:].upper().replace("-", "_")] = "1" if following.startswith("--") else following
    return made
