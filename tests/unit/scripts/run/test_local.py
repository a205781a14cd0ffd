"""make run: what it refuses before it writes anything, and what it says of the engine."""

from pathlib import Path

import pytest

from scripts.run import local
from tests.commands import Command, in_process
from trader.forecasting.map import kernel


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return make run in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return in_process(local.main, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("AT", "yesterday", "AT='yesterday' is neither a day"),
        ("AT", "1066-10-14", "is not in the years"),
        ("MODE", "dry", "MODE='dry': must be one of"),
        ("UNIVERSE", "sp500,AAPL", "must be sp500 alone"),
        ("JOURNAL", "out", "must be folder:PATH"),
    ],
)
def test_a_wrong_setting_writes_nothing(make: Command, variable: str, value: str, said: str) -> None:
    code, _, errors = make(**{variable: value})
    assert (code, list(Path().iterdir())) == (2, [])
    assert said in errors


def test_a_day_before_the_first_known_members_is_refused(make: Command) -> None:
    code, _, errors = make(AT="1995-12-01")
    assert code == 2
    assert "the members of the S&P 500 are known from 1996-01-02 on, not for 1995-12-01" in errors


def test_a_failure_of_aws_is_left_to_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_names: object) -> None:
        raise ConnectionError

    monkeypatch.setattr("trader.wiring.PARAMETERS.fetch", fail)
    local.check_settings({"ALPACAUSER": "ssm:/somewhere"})


@pytest.mark.parametrize("is_there", [False, True], ids=["without the library", "with the library"])
def test_the_reference_engine_says_that_it_is_one(
    make: Command, is_there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_there:
        monkeypatch.setattr(kernel, "FOLDER", tmp_path)
    kernel.load.cache_clear()
    try:
        _, _, errors = make(ENGINE="map", UNIVERSE_SIZE="1")
    finally:
        kernel.load.cache_clear()
    assert ("ENGINE=map used its reference in NumPy, much slower" in errors) is not is_there
