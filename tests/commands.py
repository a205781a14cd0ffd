"""Commands called in the tests' own process, as make calls them."""

from collections.abc import Callable

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
    """Wrap a command's `main`. If `is_joined`, its output and its errors become one line each."""

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
