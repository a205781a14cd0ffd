"""The stand-in for Logs Insights answers as AWS documents it, and refuses queries that it does not know."""

import json
from typing import Any

import pytest

from scripts.testkit.insights import Parser, QueryError, discover_fields, natural, stamp, tokens

EVENTS = [
    {"message": "order", "symbol": "KO", "quantity": 2, "price_usd": 60.5, "nested": {"deep": {"value": 7}}},
    {"message": "order", "symbol": "PEP", "quantity": 10, "price_usd": 150},
    {"message": "run", "status": "TRADED", "symbols": ["KO", "PEP"], "is_dry": False},
    {"message": "run", "status": "it's closed", "quantity": 0},
]
FIRST_S = 1_800_000_000  # 2027-01-15 08:00:00 UTC


def ask(query: str, limit: int = 10_000) -> list[dict[str, Any]]:
    """Return the query's rows for EVENTS, which are one minute apart."""
    events = [
        discover_fields(json.dumps(event))
        | {"@timestamp": stamp(FIRST_S + 60 * at), "@message": "raw", "@ptr": str(at)}
        for at, event in enumerate(EVENTS)
    ]
    rows, _ = Parser(query).parse().run(events, limit)
    return [{name: value for name, value in row.items() if name != "@ptr"} for row in rows]


def column(query: str, name: str) -> list[Any]:
    return [row.get(name) for row in ask(query)]


# --- fields and conditions ---


def test_nested_fields_and_lists_are_found_by_dots() -> None:
    assert ask('filter symbol = "KO" | fields nested.deep.value') == [{"nested.deep.value": 7}]
    assert ask('filter symbols.1 = "PEP" | fields symbols.0') == [{"symbols.0": "KO"}]


@pytest.mark.parametrize("message", ["no JSON", "[1]", '"text"', "1", ""])
def test_a_message_that_is_not_an_object_has_no_fields(message: str) -> None:
    assert discover_fields(message) == {}


def test_an_event_with_more_fields_than_aws_finds_is_refused() -> None:
    with pytest.raises(QueryError):
        discover_fields(json.dumps({f"f{number}": 1 for number in range(201)}))


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ('message = "order"', 2),
        ('message != "order"', 2),
        ("quantity > 2", 1),
        ("quantity >= 2", 2),
        ("quantity < 10", 2),
        ("quantity <= 0", 1),
        ('quantity = "10"', 1),
        ("is_dry = 0", 1),
        ('message = "order" and quantity > 2', 1),
        ('symbol = "KO" or status = "TRADED"', 2),
        ('message = "run" and status != "TRADED"', 1),
        ('message = "run" or message = "order" and quantity > 2', 3),
        ('(message = "run" or message = "order") and quantity > 2', 1),
        ('not message = "run"', 2),
        ("ispresent(quantity)", 3),
        ("not ispresent(quantity)", 1),
        ('symbol in ["KO", "MCD"]', 1),
        ('status like "TRA"', 1),
        ("status like /^it.s/", 1),
        ('status = "it\'s closed"', 1),
        ("price_usd * quantity > 1000", 1),
        ("absent = 1", 0),
    ],
)
def test_a_condition_selects_the_right_number_of_events(condition: str, found: int) -> None:
    assert len(ask(f"filter {condition}")) == found


def test_numbers_are_compared_as_numbers() -> None:
    assert column("filter ispresent(quantity) | fields quantity | sort quantity asc", "quantity") == [0, 2, 10]


def test_comments_in_a_query_are_ignored() -> None:
    assert len(ask('# what it says | limit 1\nfilter message = "run" # and so on\n')) == 2


def test_only_named_fields_that_an_event_has_are_shown() -> None:
    assert ask("fields symbol, status | sort @timestamp asc | limit 3") == [
        {"symbol": "KO"},
        {"symbol": "PEP"},
        {"status": "TRADED"},
    ]


def test_without_fields_the_raw_message_is_shown() -> None:
    assert set(ask('filter symbol = "KO"')[0]) == {"@timestamp", "@message"}


def test_an_alias_names_a_computed_field() -> None:
    query = "fields price_usd * quantity as usd, coalesce(symbol, status) as what | sort @timestamp asc | limit 1"
    assert ask(query) == [{"usd": 121, "what": "KO"}]


def test_display_chooses_what_is_shown() -> None:
    assert ask('filter symbol = "KO" | fields symbol, quantity * 2 as twice | display twice') == [{"twice": 4}]


def test_the_newest_come_first_unless_sorted() -> None:
    assert column("fields @timestamp, message", "message") == ["run", "run", "order", "order"]


# --- stats ---


def test_statistics_cover_only_events_that_have_the_field() -> None:
    query = "stats count(*) as events, count(quantity) as n, sum(quantity) as total, avg(quantity) as mean, "
    query += "min(quantity) as least, max(quantity) as most, pct(quantity, 50) as median, latest(quantity) as last, "
    query += "earliest(quantity) as first, count_distinct(message) as kinds"
    assert ask(query) == [
        {
            "events": 4,
            "n": 3,
            "total": 12,
            "mean": 4,
            "least": 0,
            "most": 10,
            "median": 2,
            "last": 0,
            "first": 2,
            "kinds": 2,
        }
    ]


def test_a_statistic_without_values_is_left_out() -> None:
    assert ask("stats count(*) as n, sum(absent) as total") == [{"n": 4}]


def test_rows_are_grouped_by_every_named_field() -> None:
    assert ask("stats count(*) as n by message, bin(2m) as since | sort since asc") == [
        {"message": "order", "since": "2027-01-15 08:00:00.000", "n": 2},
        {"message": "run", "since": "2027-01-15 08:02:00.000", "n": 2},
    ]


def test_a_statistic_may_be_of_an_expression() -> None:
    assert ask("stats sum(price_usd * quantity / 10) as tens by message | sort tens desc | limit 1") == [
        {"message": "order", "tens": 162.1}
    ]


def test_a_statistic_without_an_alias_is_named_by_its_text() -> None:
    assert ask("stats count(*)") == [{"count(*)": 4}]


# --- sorting and limits ---


def test_the_smaller_limit_holds() -> None:
    assert len(ask("fields message | limit 3", limit=2)) == 2
    assert len(ask("fields message | limit 1", limit=2)) == 1


def test_sorting_is_by_the_first_field_then_by_the_next() -> None:
    rows = ask('filter message = "order" | fields symbol, message | sort message asc, symbol desc')
    assert [row["symbol"] for row in rows] == ["PEP", "KO"]


def test_text_sorts_before_numbers_and_digits_sort_by_value() -> None:
    values = ["10", "9", "a10", "a9", "!"]
    assert sorted(values, key=natural) == ["!", "a9", "a10", "9", "10"]


# --- refusals ---


@pytest.mark.parametrize(
    "query",
    [
        "",
        "fields",
        "parse @message '*' as x",
        "dedup symbol",
        "filter message == 'order'",
        "filter message ~ 'order'",
        "filter not absent = 1",
        "filter absent != 1",
        "filter tolower(message) = 'order'",
        "filter symbol in ()",
        "stats median(quantity)",
        "stats count(*) | stats count(*)",
        "stats bin(5m)",
        "fields foo-bar as",
        "limit ten",
        "fields message sort message",
        "fields (message",
    ],
)
def test_an_unsupported_query_is_refused(query: str) -> None:
    with pytest.raises(QueryError):
        ask(query)


def test_each_token_has_its_kind() -> None:
    assert [token.kind for token in tokens("fields `a-b`, @log | filter x like /a b/ and y >= 1.5")] == [
        "name", "name", "sign", "name", "sign", "name", "name", "name", "pattern", "name", "name", "sign", "number",
    ]  # fmt: skip
