import boto3
import pytest

from trader import wiring
from trader.parameters import Parameters
from trader.settings import SettingsError


def put(name: str, value: str) -> None:
    boto3.client("ssm").put_parameter(Name=name, Value=value, Type="SecureString", Overwrite=True)


@pytest.mark.usefixtures("aws")
def test_secure_strings_are_decrypted() -> None:
    put("/trader/pw", "secret")
    assert Parameters().fetch(["/trader/pw"]) == {"/trader/pw": "secret"}


@pytest.mark.usefixtures("aws")
def test_more_than_ten_parameters_are_fetched() -> None:
    names = [f"/trader/{number}" for number in range(12)]
    for name in names:
        put(name, name)
    assert Parameters().fetch(names) == {name: name for name in names}


@pytest.mark.usefixtures("aws")
def test_missing_parameters_are_left_out() -> None:
    assert Parameters().fetch(["/trader/gone"]) == {}


@pytest.mark.usefixtures("aws")
def test_a_parameter_is_fetched_once_until_it_is_forgotten() -> None:
    parameters = Parameters()
    put("/trader/pw", "old")
    parameters.fetch(["/trader/pw"])
    put("/trader/pw", "new")
    assert parameters.fetch(["/trader/pw"]) == {"/trader/pw": "old"}
    parameters.forget()
    assert parameters.fetch(["/trader/pw"]) == {"/trader/pw": "new"}


@pytest.mark.usefixtures("aws")
def test_a_missing_parameter_is_asked_for_once_until_it_is_forgotten() -> None:
    parameters = Parameters()
    put("/trader/pw", "secret")
    names = ["/trader/pw", "/trader/message_url"]
    assert parameters.fetch(names) == {"/trader/pw": "secret"}
    put("/trader/message_url", "ntfy://topic")
    assert parameters.fetch(names) == {"/trader/pw": "secret"}
    parameters.forget()
    assert parameters.fetch(names) == {"/trader/pw": "secret", "/trader/message_url": "ntfy://topic"}


@pytest.mark.usefixtures("aws")
def test_a_secret_that_is_stored_after_a_run_failed_without_it_is_there_for_the_next_run() -> None:
    wiring.PARAMETERS.forget()
    env = {"BROKER": "alpaca", "ALPACAUSER": "ssm:/trader/user", "ALPACAPW": "ssm:/trader/pw"}
    put("/trader/user", "PK" + 18 * "A")
    with pytest.raises(SettingsError, match="there is no such SSM parameter"):
        wiring.read_settings(env)
    put("/trader/pw", "a-secret-key-of-forty-characters-of-text")
    assert wiring.read_settings(env).alpacapw == "a-secret-key-of-forty-characters-of-text"
    wiring.PARAMETERS.forget()


def test_without_a_halt_switch_nothing_is_halted() -> None:
    assert Parameters().read_halt_reason("") == ""


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize(
    ("value", "halted"), [("false", False), ("False\n", False), ("true", True), ("no", True), ("?", True)]
)
def test_only_a_clear_false_lets_the_run_trade(value: str, halted: bool) -> None:
    put("/trader/halt", value)
    assert bool(Parameters().read_halt_reason("/trader/halt")) is halted


@pytest.mark.usefixtures("aws")
def test_a_secret_mistaken_for_the_switch_is_not_quoted() -> None:
    put("/trader/pw", "hunter2")
    assert "hunter2" not in Parameters().read_halt_reason("/trader/pw")


@pytest.mark.usefixtures("aws")
def test_the_halt_switch_is_read_afresh_each_time() -> None:
    parameters = Parameters()
    put("/trader/halt", "false")
    assert not parameters.read_halt_reason("/trader/halt")
    put("/trader/halt", "true")
    assert parameters.read_halt_reason("/trader/halt")


@pytest.mark.usefixtures("aws")
def test_a_missing_halt_switch_halts() -> None:
    assert "does not exist" in Parameters().read_halt_reason("/trader/halt")


def test_an_unreadable_halt_switch_halts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    assert "cannot be read" in Parameters().read_halt_reason("/trader/halt")
