import json
import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import boto3
import pytest

from scripts import ROOT
from scripts.cloud import message_addresses, secrets
from scripts.cloud.alpaca_account import Keys, choose_url, explain_mismatch
from scripts.cloud.aws import UsageError, connect
from scripts.testkit.alpaca import AlpacaFake, Answer
from tests.aws_setup import deny
from tests.commands import Command, in_process
from tests.warm.python import python
from trader.settings import LIVE_URL, PAPER_URL

type Terminal = Callable[..., tuple[int, str]]
KEY_ID, SECRET = "PKTESTTESTTEST123456", "s3cr3tS3cr3ts3cr3tS3cr3ts3cr3tS3cr3t1234"
OTHER_ID, OTHER_SECRET = "PKOTHEROTHEROTHER123", "0th3r0th3r0th3r0th3r0th3r0th3r0th3r01234"
USER, PASSWORD = "/prophet-trader/trend/alpacauser", "/prophet-trader/trend/alpacapw"
FROM_ENVIRONMENT = {"STRATEGY": "trend", "ALPACAUSER": KEY_ID, "ALPACAPW": SECRET}


PAIRS = {KEY_ID: SECRET, OTHER_ID: OTHER_SECRET}


class Alpaca(AlpacaFake):
    """A stand-in that accepts each of PAIRS as the keys of an account of its own, and counts what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.pairs = dict(PAIRS)
        self.numbers: dict[str, str] = {}  # of accounts that are not their own

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: Any) -> Answer | None:
        key_id = next((value for name, value in headers.items() if name.lower() == "apca-api-key-id"), "")
        self.key_id, self.secret = key_id, self.pairs.get(key_id, "unknown")
        self.account_overrides["account_number"] = self.numbers.get(
            key_id, f"PA00000{list(self.pairs).index(key_id) + 1001}"
        )
        return super().answer(method, path, headers, body)


@pytest.fixture
def alpaca(aws: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Alpaca]:
    """Start Alpaca's stand-in, and let the command ask it."""
    with Alpaca() as fake:
        monkeypatch.setenv("APCA_API_BASE_URL", fake.url)
        yield fake


@pytest.fixture
def make(alpaca: Alpaca, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return in_process(secrets.main, monkeypatch, capsys)


@pytest.fixture
def terminal(aws: dict[str, str], alpaca: Alpaca) -> Terminal:
    """Return a function that runs the command on a terminal, answers its prompts, and returns exit code and output."""

    def call(*answers: str, addresses: Sequence[str] = (), **variables: str) -> tuple[int, str]:
        environment = {**aws, "PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT / 'function'}{os.pathsep}{ROOT}"}
        main, end = pty.openpty()
        process = subprocess.Popen(
            [*python(), "-m", "scripts", "secrets"],
            env={**environment, "STRATEGY": "trend", "COLUMNS": "120", "APCA_API_BASE_URL": alpaca.url, **variables},
            stdin=end,
            stdout=end,
            stderr=end,
            start_new_session=True,
        )
        os.close(end)
        shown = conversation(main, list(answers), list(addresses))
        os.close(main)
        return process.wait(timeout=30), shown

    return call


QUESTION = re.compile(r"Key id: |Secret key \([^)]*\): |Addresses \(.*\): ")


def conversation(main: int, answers: list[str], addresses: list[str]) -> str:
    """Answer each prompt; return what the terminal shows until the program ends or is silent for a minute.

    Enter is the answer to a question for addresses that has none.
    """
    shown, questions = "", 0
    while select.select([main], [], [], 60)[0]:
        try:
            part = os.read(main, 4096).decode()
        except OSError:  # Linux reports the end of a terminal as an error
            break
        if not part:
            break
        shown += part
        asked = QUESTION.findall(shown)
        is_about_keys = bool(asked) and not asked[-1].startswith("Addresses")
        if len(asked) > questions and (answers or not is_about_keys):
            questions += 1
            time.sleep(0.05)  # getpass discards what is typed before it has turned the echo off
            answer = answers.pop(0) if is_about_keys else addresses.pop(0) if addresses else ""
            os.write(main, f"{answer}\n".encode())
    return " ".join(shown.split())


def parameter(name: str) -> dict[str, Any]:
    [found] = boto3.client("ssm").describe_parameters(
        ParameterFilters=[{"Key": "Name", "Option": "Equals", "Values": [name]}]
    )["Parameters"]
    return dict(found)


def value(name: str) -> str:
    return boto3.client("ssm").get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"]


def names() -> Sequence[str]:
    return sorted(item["Name"] for item in boto3.client("ssm").describe_parameters()["Parameters"])


# --- from the environment ---


def test_both_keys_become_secure_strings(make: Command) -> None:
    code, _, _ = make(**FROM_ENVIRONMENT)
    assert (code, value(USER), value(PASSWORD)) == (0, KEY_ID, SECRET)
    assert {parameter(name)["Type"] for name in (USER, PASSWORD)} == {"SecureString"}


def test_keys_are_encrypted_with_awss_managed_key(make: Command) -> None:
    make(**FROM_ENVIRONMENT)
    assert {parameter(name)["KeyId"] for name in (USER, PASSWORD)} == {"alias/aws/ssm"}


def test_keys_are_tagged_with_project_and_strategy(make: Command) -> None:
    make(**FROM_ENVIRONMENT)
    tags = boto3.client("ssm").list_tags_for_resource(ResourceType="Parameter", ResourceId=USER)["TagList"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == {"project": "prophet-trader", "strategy": "trend"}


def test_names_and_versions_are_shown_but_no_value(make: Command) -> None:
    _, said, noted = make(**FROM_ENVIRONMENT)
    assert "ALPACAUSER" in said
    assert "written" in said
    assert not any(secret in said + noted for secret in (KEY_ID, SECRET))


def test_the_same_values_again_make_no_new_version(make: Command) -> None:
    make(**FROM_ENVIRONMENT)
    code, said, _ = make(**FROM_ENVIRONMENT, JSON="1")
    assert code == 0
    assert [(row["result"], row["version"]) for row in json.loads(said)] == [("unchanged", 1), ("unchanged", 1)]


def test_only_changed_values_are_written(make: Command, alpaca: Alpaca) -> None:
    make(**FROM_ENVIRONMENT)
    alpaca.pairs[KEY_ID] = OTHER_SECRET  # made anew at Alpaca
    _, said, _ = make(**{**FROM_ENVIRONMENT, "ALPACAPW": OTHER_SECRET}, JSON="1")
    assert [(row["variable"], row["result"], row["version"]) for row in json.loads(said)] == [
        ("ALPACAUSER", "unchanged", 1),
        ("ALPACAPW", "written", 2),
    ]


def test_keys_can_be_written_without_the_right_to_read(make: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    make(**FROM_ENVIRONMENT)
    deny(monkeypatch, "get_parameters", USER, PASSWORD)
    code, said, _ = make(**FROM_ENVIRONMENT, JSON="1")
    assert (code, [row["version"] for row in json.loads(said)]) == (0, [2, 2])


def test_each_strategy_has_its_own_keys(make: Command) -> None:
    make(**FROM_ENVIRONMENT)
    make(STRATEGY="swing", ALPACAUSER=OTHER_ID, ALPACAPW=OTHER_SECRET, PROJECT="mine")
    assert names() == ["/mine/swing/alpacapw", "/mine/swing/alpacauser", PASSWORD, USER]


def test_a_key_id_that_is_stored_for_another_strategy_is_refused_with_its_name(make: Command) -> None:
    make(**FROM_ENVIRONMENT)
    code, _, errors = make(**{**FROM_ENVIRONMENT, "STRATEGY": "interval"})
    assert (code, names()) == (3, [PASSWORD, USER])
    assert "ALPACAUSER: this key id is already stored for trend, and two strategies must not share an account" in errors
    assert f"aws ssm delete-parameters --names {USER} {PASSWORD}" in errors


def test_keys_that_cannot_be_compared_are_stored_with_a_note(make: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    make(**FROM_ENVIRONMENT)
    deny(monkeypatch, "get_parameters", USER, PASSWORD)
    code, _, noted = make(STRATEGY="interval", ALPACAUSER=OTHER_ID, ALPACAPW=OTHER_SECRET)
    assert code == 0
    assert "not compared with the keys of other strategies, which these credentials may not read" in noted


# --- an account that another strategy uses ---

OTHER = {"STRATEGY": "interval", "ALPACAUSER": OTHER_ID, "ALPACAPW": OTHER_SECRET}
TAKEN = "accounts/PA000001002.json"


def enter(text: str) -> str:
    """Write the entry of the other keys' account into the journal's bucket, as a run does; return the bucket."""
    account = boto3.client("sts").get_caller_identity()["Account"]
    bucket = f"prophet-trader-{account}-{boto3.session.Session().region_name}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    boto3.client("s3").put_object(Bucket=bucket, Key=TAKEN, Body=text.encode())
    return bucket


def test_other_keys_of_an_account_that_another_strategy_uses_are_refused(make: Command, alpaca: Alpaca) -> None:
    make(**FROM_ENVIRONMENT)
    alpaca.numbers[OTHER_ID] = "PA000001001"
    code, _, errors = make(**OTHER)
    assert (code, names()) == (3, [PASSWORD, USER])
    assert (
        "these keys are of Alpaca account PA000001001, paper money, ACTIVE, whose keys are already stored for" in errors
    )
    assert OTHER_SECRET not in errors


def test_an_account_that_another_strategy_trades_is_refused(make: Command) -> None:
    bucket = enter('{"strategy": "trend"}')
    code, _, errors = make(**OTHER)
    assert (code, names()) == (3, [])
    assert f"which trend trades, as s3://{bucket}/{TAKEN} says" in errors
    assert f"aws s3 rm s3://{bucket}/{TAKEN}" in errors


def test_an_account_that_the_strategy_itself_trades_is_stored(make: Command) -> None:
    enter('{"strategy": "interval"}')
    assert make(**OTHER)[0] == 0


def test_an_entry_that_cannot_be_read_is_no_permission(make: Command) -> None:
    enter("{")
    code, _, errors = make(**OTHER)
    assert (code, "which a strategy that cannot be read trades" in errors) == (3, True)


def test_an_account_that_was_handed_over_is_stored(make: Command) -> None:
    bucket = enter('{"strategy": "trend"}')
    boto3.client("s3").delete_object(Bucket=bucket, Key=TAKEN)
    assert make(**OTHER)[0] == 0


def test_a_journal_that_cannot_be_read_is_said(make: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    enter('{"strategy": "trend"}')
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    code, _, noted = make(**OTHER)
    assert (code, "not compared with the journal in s3://prophet-trader-" in noted) == (0, True)


def test_the_account_stands_beside_the_keys(make: Command) -> None:
    make(**FROM_ENVIRONMENT)
    words = "Alpaca key of prophet-trader-trend, account PA000001001, written by make secrets"
    assert [parameter(name)["Description"] for name in (USER, PASSWORD)] == [words, words]


def test_new_keys_of_another_account_change_what_stands_beside_them(make: Command) -> None:
    make(**FROM_ENVIRONMENT)
    make(**{**OTHER, "STRATEGY": "trend"})
    assert "account PA000001002," in parameter(USER)["Description"]


# --- Alpaca's answer ---


def test_alpaca_is_asked_once_and_the_account_is_named(make: Command, alpaca: Alpaca) -> None:
    code, _, noted = make(**FROM_ENVIRONMENT)
    assert (code, len(alpaca.asked("GET", "/v2/account"))) == (0, 1)
    assert "trend: Alpaca account PA000001001, paper money, ACTIVE; no other strategy is known to use it" in noted


def test_a_blocked_account_is_stored_and_said_to_be_blocked(make: Command, alpaca: Alpaca) -> None:
    alpaca.account_overrides |= {"status": "ACCOUNT_UPDATED", "trading_blocked": True}
    code, _, noted = make(**FROM_ENVIRONMENT)
    assert code == 0
    assert "paper money, ACCOUNT_UPDATED, trading blocked" in noted


def test_the_secret_key_of_another_pair_is_refused_and_not_stored(make: Command, alpaca: Alpaca) -> None:
    code, _, errors = make(**{**FROM_ENVIRONMENT, "ALPACAPW": OTHER_SECRET})
    assert (code, names(), len(alpaca.asked("GET", "/v2/account"))) == (3, [], 1)
    assert "Alpaca refused these keys" in errors
    assert "the secret key does not belong to the key id" in errors
    assert OTHER_SECRET not in errors


def test_if_alpaca_cannot_be_reached_nothing_is_stored(make: Command) -> None:
    code, _, errors = make(**FROM_ENVIRONMENT, APCA_API_BASE_URL="http://127.0.0.1:9")
    assert (code, names()) == (3, [])
    assert "Alpaca could not be asked about these keys, so nothing was stored for them" in errors
    assert "add CHECK=0" in errors


def test_an_answer_that_is_not_alpacas_stores_nothing(make: Command, alpaca: Alpaca) -> None:
    alpaca.fault("GET", "/v2/account", "missing-field", times=9, field="account_number")
    code, _, errors = make(**FROM_ENVIRONMENT)
    assert (code, names()) == (3, [])
    assert "did not answer like Alpaca" in errors


def test_with_check_0_keys_are_stored_unasked(make: Command, alpaca: Alpaca) -> None:
    code, _, noted = make(**{**FROM_ENVIRONMENT, "ALPACAPW": OTHER_SECRET}, CHECK="0")
    assert (code, value(PASSWORD), alpaca.asked("GET", "/v2/account")) == (0, OTHER_SECRET, [])
    assert "the keys of trend are stored without asking Alpaca, because of CHECK=0" in noted


def test_keys_are_sent_to_no_address_but_alpacas(make: Command) -> None:
    code, _, errors = make(**FROM_ENVIRONMENT, APCA_API_BASE_URL="https://example.org")
    assert (code, names()) == (2, [])
    assert "APCA_API_BASE_URL=https://example.org: must be an https address of alpaca.markets" in errors


@pytest.mark.parametrize(
    ("key_id", "mode", "url"),
    [
        ("PKTESTTESTTEST123456", "paper", PAPER_URL),
        ("AKTESTTESTTEST123456", "live", LIVE_URL),
        ("AKTESTTESTTEST123456", "", LIVE_URL),
        ("AKTESTTESTTEST123456", "paper", LIVE_URL),  # stored before the strategy is deployed with MODE=live
        ("CKTESTTESTTEST123456", "live", LIVE_URL),
        ("CKTESTTESTTEST123456", "", PAPER_URL),
    ],
)
def test_the_api_that_knows_the_keys_is_asked(key_id: str, mode: str, url: str) -> None:
    assert choose_url(Keys(key_id, SECRET), mode, {}) == url


def test_keys_of_the_other_kind_of_account_are_pointed_out() -> None:
    live, paper = Keys("AKTESTTESTTEST123456", SECRET), Keys(KEY_ID, SECRET)
    assert "trend is deployed with MODE=paper, and these keys are for a live account" in explain_mismatch(
        "trend", live, "paper"
    )
    assert "trend is deployed with MODE=live, and these keys are for a paper account" in explain_mismatch(
        "trend", paper, "live"
    )
    assert explain_mismatch("trend", paper, "paper") == explain_mismatch("trend", live, "") == ""


def test_a_live_accounts_key_is_accepted_with_a_warning(make: Command) -> None:
    code, _, noted = make(**{**FROM_ENVIRONMENT, "ALPACAUSER": "AKTESTTESTTEST123456"}, CHECK="0")
    assert code == 0
    assert "REAL MONEY" in noted


def test_keys_that_look_swapped_get_a_warning(make: Command) -> None:
    _, _, noted = make(**{**FROM_ENVIRONMENT, "ALPACAUSER": SECRET, "ALPACAPW": KEY_ID}, CHECK="0")
    assert "is this really the key id, and not the secret key?" in noted


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"ALPACAPW": ""}, "ALPACAPW is not set, but the other one is"),
        ({"ALPACAUSER": " "}, "ALPACAUSER is not set, but the other one is"),
        ({"ALPACAPW": "two words-and-more"}, "this is not an Alpaca secret key"),
        ({"ALPACAPW": "bell\a-and-more"}, "this is not an Alpaca secret key"),
        ({"ALPACAPW": "short"}, "this is not an Alpaca secret key"),
        ({"ALPACAUSER": "x" * 129}, "this is not an Alpaca key id"),
        ({"ALPACAUSER": "ssm:/prophet-trader/trend/alpacauser"}, "the key id is a reference to a parameter"),
        ({"ALPACAPW": KEY_ID}, "the key id and the secret key are the same"),
        ({"STRATEGY": "Trend"}, "STRATEGY=Trend: must be at most 32 lower-case letters"),
        ({"STRATEGY": "a/b"}, "STRATEGY=a/b: must be at most 32 lower-case letters"),
    ],
)
def test_invalid_keys_are_refused_and_nothing_is_written(make: Command, variables: dict[str, str], said: str) -> None:
    code, _, errors = make(**{**FROM_ENVIRONMENT, **variables})
    assert (code, names()) == (2, [])
    assert said in errors
    assert "two words" not in errors


def test_one_account_for_several_strategies_is_refused() -> None:
    with pytest.raises(UsageError, match=r"no two may share an account: set STRATEGY to .* \(swing, trend\)"):
        secrets.from_environment(FROM_ENVIRONMENT, ["swing", "trend"])


def test_without_terminal_or_variables_the_error_names_them(make: Command) -> None:
    code, _, errors = make(STRATEGY="trend")
    assert (code, names()) == (3, [])
    assert "there is no terminal to ask for the keys on; set ALPACAUSER" in errors


# --- failures ---


def test_a_parameter_that_keeps_no_secret_is_refused_with_advice(make: Command) -> None:
    boto3.client("ssm").put_parameter(Name=PASSWORD, Value="x", Type="String")
    code, said, errors = make(**FROM_ENVIRONMENT)
    assert (code, said, names()) == (3, "", [PASSWORD])
    assert f"aws ssm delete-parameter --name {PASSWORD}" in errors


def test_after_a_failed_second_write_the_first_is_named(make: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    deny(monkeypatch, "put_parameter", PASSWORD)
    code, said, errors = make(**FROM_ENVIRONMENT, JSON="1")
    assert (code, [row["variable"] for row in json.loads(said)]) == (3, ["ALPACAUSER"])
    assert "ALPACAUSER of trend WAS written, but ALPACAPW was NOT" in errors
    assert "it is safe to run it again: make secrets STRATEGY=trend" in errors


def test_after_a_failed_first_write_nothing_is_changed(make: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    deny(monkeypatch, "put_parameter", USER)
    code, _, errors = make(**FROM_ENVIRONMENT)
    assert (code, names()) == (3, [])
    assert "the keys of trend are unchanged" in errors


def test_running_again_completes_a_half_written_pair(make: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        deny(patched, "put_parameter", PASSWORD)
        make(**FROM_ENVIRONMENT)
    code, _, _ = make(**FROM_ENVIRONMENT)
    assert (code, value(USER), value(PASSWORD)) == (0, KEY_ID, SECRET)


def test_a_value_quoted_by_aws_is_not_shown(make: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    deny(monkeypatch, "put_parameter", PASSWORD, quoting=f"may not write {SECRET}")
    _, said, errors = make(**FROM_ENVIRONMENT)
    assert "may not write (secret)" in errors
    assert SECRET not in said + errors


@pytest.mark.usefixtures("aws")
def test_no_repr_shows_a_key(make: Command) -> None:
    make(**FROM_ENVIRONMENT)
    stored = secrets.parameters(connect(), "trend")
    assert stored["alpacapw"].value == SECRET
    shown = repr(stored) + repr(Keys(KEY_ID, SECRET))
    assert not any(secret in shown for secret in (KEY_ID, SECRET))


# --- on a terminal ---


def test_the_key_id_is_shown_as_it_is_typed_and_the_secret_key_is_not(terminal: Terminal) -> None:
    code, shown = terminal(KEY_ID, SECRET)
    assert (code, value(USER), value(PASSWORD)) == (0, KEY_ID, SECRET)
    assert f"Alpaca keys of trend Key id: {KEY_ID} Secret key (not shown):" in shown
    assert SECRET not in shown


def test_the_account_of_entered_keys_is_named(terminal: Terminal) -> None:
    _, shown = terminal(KEY_ID, SECRET)
    assert "trend: Alpaca account PA000001001, paper money, ACTIVE" in shown


def test_enter_keeps_the_current_keys(terminal: Terminal, make: Command) -> None:
    make(**FROM_ENVIRONMENT)
    code, shown = terminal("")
    assert (code, parameter(PASSWORD)["Version"]) == (0, 1)
    assert "Alpaca keys of trend, or Enter to keep the current ones" in shown


def test_enter_keeps_the_secret_key_of_the_same_key_id(terminal: Terminal, make: Command) -> None:
    make(**FROM_ENVIRONMENT)
    code, shown = terminal(KEY_ID, "")
    assert (code, parameter(PASSWORD)["Version"]) == (0, 1)
    assert "Secret key (not shown; Enter keeps the current one):" in shown


def test_enter_keeps_nothing_if_only_one_key_is_stored(terminal: Terminal) -> None:
    boto3.client("ssm").put_parameter(Name=USER, Value=KEY_ID, Type="SecureString")
    code, shown = terminal("", KEY_ID, SECRET)
    assert (code, value(PASSWORD)) == (0, SECRET)
    assert "a key id is required: none is stored yet; try again" in shown
    assert "Enter keeps" not in shown


def test_a_new_key_id_does_not_keep_the_old_secret_key(terminal: Terminal, make: Command) -> None:
    make(**FROM_ENVIRONMENT)
    terminal(OTHER_ID, "", OTHER_ID, OTHER_SECRET)
    assert (value(USER), value(PASSWORD)) == (OTHER_ID, OTHER_SECRET)


def test_after_unusable_input_it_asks_again(terminal: Terminal) -> None:
    code, shown = terminal("", "one two", "three", KEY_ID, SECRET)
    assert (code, value(PASSWORD)) == (0, SECRET)
    assert shown.count("try again (Ctrl-C to stop)") == 2


def test_after_keys_that_do_not_belong_together_it_asks_again(terminal: Terminal) -> None:
    code, shown = terminal(KEY_ID, OTHER_SECRET, KEY_ID, SECRET)
    assert (code, value(PASSWORD)) == (0, SECRET)
    assert "the secret key does not belong to the key id" in shown


def test_after_another_strategys_key_id_it_asks_again(terminal: Terminal, make: Command) -> None:
    make(STRATEGY="swing", ALPACAUSER=KEY_ID, ALPACAPW=SECRET)
    code, shown = terminal(KEY_ID, SECRET, OTHER_ID, OTHER_SECRET)
    assert (code, value(USER)) == (0, OTHER_ID)
    assert "this key id is already stored for swing" in shown


def test_after_another_strategys_account_it_asks_again(terminal: Terminal, make: Command, alpaca: Alpaca) -> None:
    make(STRATEGY="swing", ALPACAUSER=KEY_ID, ALPACAPW=SECRET)
    alpaca.pairs["PKTHIRDTHIRDTHIRD123"] = "th1rdth1rdth1rdth1rd"
    alpaca.numbers[OTHER_ID] = "PA000001001"
    code, shown = terminal(OTHER_ID, OTHER_SECRET, "PKTHIRDTHIRDTHIRD123", "th1rdth1rdth1rdth1rd")
    assert (code, value(USER)) == (0, "PKTHIRDTHIRDTHIRD123")
    assert "whose keys are already stored for swing" in shown


def test_the_end_of_the_input_is_reported(terminal: Terminal) -> None:
    code, shown = terminal("\x04")
    assert (code, names()) == (3, [])
    assert "nothing was entered, so what is stored is unchanged" in shown
    assert "Traceback" not in shown


# --- addresses of messages ---

ADDRESSES, TOPIC = "/prophet-trader/trend/message_url", "ntfy://ntfy.sh/a-t0pic-that-nobody-guesses"
RYVER = "ryver://nobody-guesses/ckhrjW8w672m6HG"
HOOK = "discord://123456789012345678/abcdefghijklmnopqrstuvwxyzABCDEFGH"


def test_entered_addresses_become_a_secure_string(terminal: Terminal) -> None:
    code, _ = terminal(KEY_ID, SECRET, addresses=[f"{TOPIC}  {HOOK}"])
    assert (code, value(ADDRESSES), parameter(ADDRESSES)["Type"]) == (0, f"{TOPIC} {HOOK}", "SecureString")


def test_of_an_entered_address_only_the_kind_is_shown(terminal: Terminal) -> None:
    _, shown = terminal(KEY_ID, SECRET, addresses=[TOPIC])
    assert "trend: messages go by ntfy" in shown
    assert "nobody-guesses" not in shown


def test_enter_for_no_address_stores_none(terminal: Terminal) -> None:
    _, shown = terminal(KEY_ID, SECRET)
    assert "Addresses (not shown; Enter for none):" in shown
    assert names() == [PASSWORD, USER]


def test_enter_keeps_the_current_addresses(terminal: Terminal, make: Command) -> None:
    make(**FROM_ENVIRONMENT, MESSAGE_URL=TOPIC)
    code, shown = terminal("")
    assert (code, value(ADDRESSES), parameter(ADDRESSES)["Version"]) == (0, TOPIC, 1)
    assert "Enter keeps the current ones (ntfy), none deletes them" in shown


def test_none_deletes_the_addresses_and_keeps_the_keys(terminal: Terminal, make: Command) -> None:
    make(**FROM_ENVIRONMENT, MESSAGE_URL=TOPIC)
    code, shown = terminal("", addresses=["none"])
    assert (code, names()) == (0, [PASSWORD, USER])
    assert "MESSAGE_URL deleted" in shown


def test_after_an_address_that_apprise_does_not_know_it_asks_again(terminal: Terminal) -> None:
    code, shown = terminal(KEY_ID, SECRET, addresses=["carrier-pigeon://s3cret-loft", TOPIC])
    assert (code, value(ADDRESSES)) == (0, TOPIC)
    assert "address 1 (address) is none that Apprise knows" in shown
    assert "s3cret-loft" not in shown


def test_addresses_from_the_environment_are_stored_beside_the_keys(make: Command) -> None:
    code, said, noted = make(**FROM_ENVIRONMENT, MESSAGE_URL=TOPIC)
    assert (code, value(ADDRESSES), value(USER)) == (0, TOPIC, KEY_ID)
    assert "nobody-guesses" not in said + noted


def test_addresses_from_the_environment_leave_stored_keys_as_they_are(make: Command) -> None:
    make(**FROM_ENVIRONMENT)
    code, said, _ = make(STRATEGY="trend", MESSAGE_URL=TOPIC, JSON="1")
    results = [(row["variable"], row["result"]) for row in json.loads(said)]
    assert (code, results) == (
        0,
        [("ALPACAUSER", "unchanged"), ("ALPACAPW", "unchanged"), ("MESSAGE_URL", "written")],
    )


def test_none_in_the_environment_deletes_the_addresses(make: Command) -> None:
    make(**FROM_ENVIRONMENT, MESSAGE_URL=TOPIC)
    code, _, _ = make(STRATEGY="trend", MESSAGE_URL="none")
    assert (code, names()) == (0, [PASSWORD, USER])


@pytest.mark.parametrize(
    ("addresses", "said"),
    [
        (f"{TOPIC} ntfy", "MESSAGE_URL: address 2 (ntfy) is none that Apprise knows"),
        (
            RYVER,
            "MESSAGE_URL: address 1 (ryver) is of Ryver, which the layer lacks; it has Apprise API, ",
        ),
        (f"ssm:{ADDRESSES}", "MESSAGE_URL: address 1 (address) is a reference to a parameter"),
        (f"{TOPIC}{'x' * 4096}", "AWS stores at most 4096"),
    ],
)
def test_addresses_that_cannot_be_used_are_refused_and_nothing_is_written(
    make: Command, addresses: str, said: str
) -> None:
    code, _, errors = make(**FROM_ENVIRONMENT, MESSAGE_URL=addresses)
    assert (code, names()) == (2, [])
    assert said in errors
    assert "nobody-guesses" not in errors


def test_a_failed_write_of_addresses_says_what_is_stored(make: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    deny(monkeypatch, "put_parameter", ADDRESSES, quoting=f"may not write {TOPIC}")
    code, _, errors = make(**FROM_ENVIRONMENT, MESSAGE_URL=TOPIC)
    assert (code, names()) == (3, [PASSWORD, USER])
    assert "the addresses of messages of trend are unchanged, and its keys are as shown" in errors
    assert "nobody-guesses" not in errors


def test_the_services_named_are_those_that_the_layer_keeps() -> None:
    kept = message_addresses.list_modules_in_layer() - {"__init__", "base"}
    assert {"ntfy", "slack", "telegram", "email"} <= kept
    assert len(message_addresses.list_services_in_layer()) == len(kept)
