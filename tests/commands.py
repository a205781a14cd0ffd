"""A command of scripts/cloud in the tests' own process, called as make calls it."""

from collections.abc import Callable

import pytest

type Command = Callable[..., tuple[int, str, str]]
"""Arguments and variables in; exit code, output and errors out."""


def in_process(
    main: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    is_joined: bool = True,
) -> Command:
    """A command by its `main`; what it says is joined to one line each, unless its lines matter."""

    def call(*arguments: str, **variables: str) -> tuple[int, str, str]:
        with monkeypatch.context() as patched:
            patched.setattr("sys.argv", ["make", *arguments])
            for name, value in variables.items():
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
