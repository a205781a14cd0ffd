"""`make reconcile` for a deployment (moto's Lambda, SSM and S3, a stand-in for Alpaca) and on a laptop."""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest

from lambda_function import run
from scripts.run import reconcile
from scripts.testkit.alpaca import AlpacaFake
from tests.aws_setup import zip_code
from tests.builders import buy, settings
from tests.commands import Command, in_process
from tests.contract.test_cloud_rollback import FUNCTION
from trader.alpaca.client import AlpacaClient
from trader.broker.alpaca import AlpacaBroker
from trader.broker.base import OrderId
from trader.journal.base import Run
from trader.journal.entry import Journal
from trader.journal.record import build_report
from trader.model import Decision, Denial, Order, OrderStatus, OrderType, Side
from trader.wiring import open_journal

NOW = datetime.now(UTC)
SLOT = (NOW - timedelta(hours=2)).replace(second=0, microsecond=0)
MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def _log() -> Iterator[None]:
    """Restore the log, which the command redirects to standard error."""
    log = logging.getLogger("trader")
    before = log.handlers, log.propagate, log.level
    yield
    log.handlers, log.propagate = before[:2]
    log.setLevel(before[2])


@pytest.fixture
def make(
    aws: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Command:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    return in_process(reconcile.main, monkeypatch, capsys)


@pytest.fixture
def fake() -> Iterator[AlpacaFake]:
    with AlpacaFake(prices={"A": 100.0, "B": 50.0}) as fake:
        fake.now = SLOT + MINUTE
        yield fake


class Site:
    """A deployed strategy: its function's settings, its journal, and its account at Alpaca."""

    def __init__(self, fake: AlpacaFake) -> None:
        self.fake = fake
        self.journal: Journal = open_journal("s3://journal", "trend")
        self.broker = AlpacaBroker(AlpacaClient(fake.url, fake.url, lambda _: (fake.key_id, fake.secret)))
        boto3.client("s3").create_bucket(Bucket="journal")
        ssm = boto3.client("ssm")
        ssm.put_parameter(Name="/prophet-trader/trend/halt", Value="false", Type="String")
        for name, value in {"alpacauser": fake.key_id, "alpacapw": fake.secret}.items():
            ssm.put_parameter(Name=f"/prophet-trader/trend/{name}", Value=value, Type="SecureString")
        self.deploy()

    def deploy(self) -> None:
        role = boto3.client("iam").create_role(RoleName="r", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        environment = {
            **self.fake.environment,
            "JOURNAL": "s3://journal",
            "ALPACAUSER": "ssm:/prophet-trader/trend/alpacauser",
            "ALPACAPW": "ssm:/prophet-trader/trend/alpacapw",
        }
        boto3.client("lambda").create_function(
            FunctionName=FUNCTION,
            Runtime="python3.13",
            Role=role,
            Handler="lambda_function.lambda_handler",
            Code={"ZipFile": zip_code("")},
            Environment={"Variables": environment},
            Publish=True,
        )
        boto3.client("lambda").create_alias(FunctionName=FUNCTION, Name="live", FunctionVersion="1")

    def change(self, **variables: str) -> None:
        """Change settings and make them live."""
        client = boto3.client("lambda")
        before = client.get_function_configuration(FunctionName=FUNCTION)["Environment"]["Variables"]
        client.update_function_configuration(FunctionName=FUNCTION, Environment={"Variables": {**before, **variables}})
        version = client.publish_version(FunctionName=FUNCTION)["Version"]
        client.update_alias(FunctionName=FUNCTION, Name="live", FunctionVersion=version)

    def buys(self, symbol: str, quantity: float = 4, slot: datetime = SLOT, strategy: str = "trend") -> Order:
        """Place a buy at Alpaca."""
        name = str(OrderId(strategy, slot, symbol, Side.BUY))
        price_usd = self.fake.prices[symbol]
        return self.broker.submit(replace(buy(symbol, quantity, price_usd), client_order_id=name))

    def filled(self, symbol: str, **parts: Any) -> Order:
        """Place a buy at Alpaca, and return it as it is afterwards."""
        (order,) = self.broker.refresh([self.buys(symbol, **parts)])
        return order

    def ran(self, *outcomes: Order | Denial, slot: datetime = SLOT, stops: Sequence[Order] = ()) -> None:
        """Write the claim and the record of a run that finished."""
        self.journal.entry(slot).claim("word", slot + 5 * MINUTE)
        done = Run(settings=settings(), slot=slot, now=slot, outcomes=list(outcomes), stops=list(stops))
        self.journal.entry(done.slot, is_dry=done.is_dry).save(done, build_report(done, "TRADED"))

    def was_cut_off(self, *planned: Order, slot: datetime = SLOT, until: datetime | None = None) -> None:
        """Write the claim and the plan of a run that was cut off."""
        self.journal.entry(slot).claim("word", until or slot + 5 * MINUTE)
        ours = settings(BROKER="alpaca", APCA_API_BASE_URL=self.fake.url, ALPACAUSER="u", ALPACAPW="p")
        self.journal.entry(slot).note_plan(Run(settings=ours, slot=slot, now=slot, decision=Decision(orders=planned)))

    def record(self, slot: datetime = SLOT) -> dict[str, Any]:
        return dict(self.journal.entry(slot).load())


@pytest.fixture
def site(aws: dict[str, str], fake: AlpacaFake) -> Site:
    return Site(fake)


def kinds(said: str) -> list[tuple[str, bool]]:
    return [(each["kind"], each["is_difference"]) for each in json.loads(said)["findings"]]


def test_agreement_is_reported(make: Command, site: Site) -> None:
    site.ran(site.filled("A"), site.filled("B"))
    code, said, _ = make()
    assert code == 0
    assert "1 run, 2 orders in both: journal and broker agree." in said
    assert "2 orders recorded as filled, still filled" in said


def test_an_order_filled_after_its_run_is_a_difference(make: Command, site: Site) -> None:
    site.ran(site.buys("A"))
    code, said, _ = make()
    assert (code, "FILLED LATER" in said) == (1, True)
    assert "1 order recorded as pending_new, now filled" in said
    assert "Check the holding and its stop loss" in said


@pytest.mark.parametrize("is_settled", [False, True])
def test_an_order_rejected_after_its_run_is_a_difference_also_once_it_is_settled(
    make: Command, site: Site, is_settled: bool
) -> None:
    site.fake.rejected_later.add("A")
    order = site.buys("A")
    site.ran(order)
    if is_settled:
        site.journal.note_settled(SLOT, site.broker.refresh([order]))
    code, said, _ = make(JSON="1")
    assert (code, kinds(said)) == (1, [("came to nothing", True)])


def test_a_stop_of_the_bot_belongs_to_the_record_of_its_run(make: Command, site: Site) -> None:
    bought = site.filled("A")
    name = str(OrderId("trend", SLOT, "A", Side.SELL, 1))
    site.fake.cancel(site.fake.open_orders("A")[0])  # with the other leg
    stop = site.broker.submit(
        Order(
            client_order_id=name,
            symbol="A",
            side=Side.SELL,
            quantity=4,
            price_usd=97.0,
            stop_loss_usd=97.0,
            type=OrderType.STOP,
        )
    )
    site.ran(bought)
    assert kinds(make(JSON="1")[1]) == [("no record", True)]
    site.ran(bought, stops=[stop])
    assert make()[0] == 0
    site.fake.prices["A"] = 90.0
    site.fake.trade()
    assert make()[0] == 0


def test_without_any_run_there_is_nothing_to_compare(make: Command, site: Site) -> None:
    code, said, _ = make()
    assert code == 0
    assert "so there is nothing to compare: make invoke STRATEGY=trend makes a run" in said


def test_a_run_that_was_cut_off_is_recovered_and_reported_once(make: Command, site: Site) -> None:
    site.was_cut_off(site.buys("A"), buy("B"))
    code, said, errors = make()
    assert code == 1
    assert "RECOVERED" in said
    assert "1 run, 1 order in both: 1 DIFFERENCE." in said
    assert "ERROR interrupted strategy=trend" in errors
    assert site.record()["report"]["status"] == "INTERRUPTED"
    assert [order["symbol"] for order in site.record()["report"]["orders"]] == ["A"]
    code, said, _ = make(JSON="1")
    assert (code, kinds(said)) == (0, [("interrupted", False)])


def test_a_run_that_may_be_under_way_is_not_recovered(make: Command, site: Site) -> None:
    present = datetime.now(UTC)  # not NOW, which is when the tests were collected and may be minutes ago
    slot = (present - MINUTE).replace(second=0, microsecond=0)
    site.was_cut_off(site.buys("A", slot=slot), slot=slot, until=present + 5 * MINUTE)
    code, said, _ = make(JSON="1")
    assert (code, kinds(said)) == (0, [("may be under way", False)])
    assert site.journal.list_records() == []


def test_an_order_too_young_for_a_claim_is_no_difference(make: Command, site: Site) -> None:
    present = datetime.now(UTC)
    site.fake.now = present
    site.buys("A", slot=present.replace(second=0, microsecond=0))
    assert make()[0] == 0


def test_an_order_without_a_record_is_a_difference(make: Command, site: Site) -> None:
    site.ran(site.filled("A"))
    site.buys("B")
    code, said, _ = make(JSON="1")
    assert (code, kinds(said)) == (1, [("no record", True)])
    assert json.loads(said)["findings"][0]["order"]["symbol"] == "B"


def test_a_recorded_order_missing_from_the_books_is_a_difference(make: Command, site: Site) -> None:
    site.ran(replace(buy("A"), client_order_id=str(OrderId("trend", SLOT, "A", Side.BUY)), status=OrderStatus.ACCEPTED))
    code, said, _ = make()
    assert (code, "NOT IN BOOKS" in said) == (1, True)
    assert "Look for the order at the broker" in said


def test_another_strategys_orders_are_ignored(make: Command, site: Site) -> None:
    site.buys("A", strategy="trend-2")
    site.buys("B", strategy="other")
    assert make()[0] == 0


def test_orders_before_since_are_ignored(make: Command, site: Site) -> None:
    site.buys("A")
    assert make(SINCE="1h")[0] == 0
    assert make(SINCE="3h")[0] == 1


def test_an_unreadable_record_is_a_difference_and_hides_no_other(make: Command, site: Site) -> None:
    site.journal.store.write(site.journal.entry(SLOT).record_name, "{")
    site.ran(slot=SLOT - 15 * MINUTE)
    site.buys("B", slot=SLOT - 15 * MINUTE)
    _, said, _ = make(JSON="1")
    assert kinds(said) == [("no record", True), ("unreadable", True)]


def test_a_dry_run_is_no_difference(make: Command, site: Site) -> None:
    dry = Run(settings=settings(MODE="dry-run"), slot=SLOT, now=SLOT, decision=Decision(orders=(buy("A"),)))
    site.journal.entry(dry.slot, is_dry=dry.is_dry).save(dry, build_report(dry, "DRY_RUN"))
    assert make()[0] == 0


def test_nothing_is_placed_or_canceled(make: Command, site: Site) -> None:
    site.was_cut_off(site.buys("A"), buy("B"))
    site.fake.requests.clear()
    make()
    assert {request.method for request in site.fake.requests} == {"GET"}


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"BROKER": "embedded"}, "has BROKER=embedded, which is in the function's own file system"),
        ({"JOURNAL": "folder:/tmp/journal"}, "has JOURNAL=folder:/tmp/journal, which is in the function's own"),
    ],
)
def test_a_function_with_local_files_cannot_be_compared(
    make: Command, site: Site, variables: dict[str, str], said: str
) -> None:
    site.change(**variables)
    code, _, errors = make()
    assert code == 3
    assert said in errors
    assert "make reconcile LOCAL=1" in errors


def test_keys_that_are_not_in_ssm_are_named(make: Command, site: Site) -> None:
    boto3.client("ssm").delete_parameter(Name="/prophet-trader/trend/alpacapw")
    code, _, errors = make()
    assert (code, "ALPACAPW=ssm:/prophet-trader/trend/alpacapw: there is no such SSM parameter" in errors) == (2, True)


def test_a_broker_that_refuses_the_keys_is_an_error_without_a_traceback(make: Command, site: Site) -> None:
    site.fake.secret = "rotated"
    code, _, errors = make()
    assert (code, "the keys in ALPACAUSER and ALPACAPW were refused" in errors) == (3, True)


def test_an_undeployed_strategy_is_named_with_the_deployed_ones(make: Command, site: Site) -> None:
    code, _, errors = make(STRATEGY="swing")
    assert (code, "STRATEGY=swing is not deployed in us-east-1; choose one of trend" in errors) == (2, True)


@pytest.mark.parametrize(("since", "said"), [("soon", "SINCE=soon"), ("2999-01-01", "SINCE=2999-01-01 is not before")])
def test_an_invalid_period_is_refused(make: Command, site: Site, since: str, said: str) -> None:
    code, _, errors = make(SINCE=since)
    assert (code, said in errors) == (2, True)


# --- on a laptop ---

AT = {"time": "2022-12-28T20:45:00Z"}


@pytest.fixture
def laptop(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOCAL", "1")
    monkeypatch.setenv("UNIVERSE", "AAPL,KO")
    return in_process(reconcile.main, monkeypatch, capsys)


def test_a_laptops_paper_account_is_compared_as_of_its_last_run(laptop: Command) -> None:
    run(AT, env={"UNIVERSE": "AAPL,KO"})
    before = Path("out/account.json").read_bytes()
    code, said, _ = laptop()
    assert code == 0
    assert "2022-12-21 16:00 to 2022-12-28 16:00 New York" in said
    assert "journal and broker agree" in said
    assert Path("out/account.json").read_bytes() == before


def test_on_a_laptop_a_run_that_was_cut_off_is_recovered(laptop: Command) -> None:
    run(AT, env={"UNIVERSE": "AAPL,KO"})
    (record,) = Path("out/journal").glob("runs/*/*/*.json")
    record.unlink()
    assert laptop()[0] == 1
    assert json.loads(record.read_text())["report"]["status"] == "INTERRUPTED"
    assert laptop()[0] == 0


def test_a_laptop_without_runs_has_nothing_to_compare(laptop: Command) -> None:
    code, said, _ = laptop()
    assert code == 0
    assert "trend has no run on record since" in said
    assert "so there is nothing to compare: make run makes a run, and SINCE=30d looks further back." in said
    assert "agree" not in said


def test_sales_at_stops_and_take_profits_are_counted_beside_the_orders_of_runs(laptop: Command) -> None:
    for day in ("2022-12-06", "2022-12-20"):
        run({"time": f"{day}T20:45:00Z"}, env={"UNIVERSE": "sp500"})
    code, said, _ = laptop(SINCE="2022-12-01", JSON="1")
    found = json.loads(said)
    in_the_account = json.loads(Path("out/account.json").read_text())["orders"]
    assert (code, len(found["orders"]) + len(found["exits"])) == (0, len(in_the_account))
    assert len(found["exits"]) == 1
    _, said, _ = laptop(SINCE="2022-12-01")
    assert "1 sale at a stop or take profit: journal and broker agree" in said
