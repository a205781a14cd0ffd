"""The calendar of the exchange, which is loaded without those of all countries."""

import subprocess
import sys
from datetime import date, timedelta

import holidays
import pytest

from scripts import ROOT
from trader.schedule import sessions

YEARS = range(1990, 2061)
LOOK = (
    "import sys\nfrom trader.schedule import sessions\nfrom datetime import date\nsessions.session(date(2022, 7, 4))\n"
)


def days_of(year: int) -> list[date]:
    first = date(year, 1, 1)
    return [day for number in range(366) if (day := first + timedelta(days=number)).year == year]


@pytest.mark.parametrize("category", ["public", "half_day"])
def test_its_days_are_those_of_the_package_for_years_back_and_ahead(category: str) -> None:
    theirs = {year: holidays.financial_holidays("NYSE", years=year, categories=(category,)) for year in YEARS}
    found = {year: sessions._closures(year, category) for year in YEARS}
    assert found == {year: frozenset(each) for year, each in theirs.items()}
    assert all(found[year] for year in range(2000, 2030))


def test_its_sessions_are_those_of_the_package() -> None:
    for year in (2001, 2012, 2018, 2025, 2031):
        closed = holidays.financial_holidays("NYSE", years=year, categories=("public",))
        open_days = [day for day in days_of(year) if day.weekday() < 5 and day not in closed]
        assert sessions.list_days(date(year, 1, 1), date(year, 12, 31)) == open_days


def test_it_imports_no_other_calendar() -> None:
    script = f"{LOOK}print(*sys.modules)"
    env = {"PYTHONPATH": "function:."}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=env, cwd=ROOT)
    assert not [name for name in done.stdout.split() if name.startswith(("holidays.countries", "holidays.financial"))]


def test_a_package_without_its_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holidays, "__path__", ["/nowhere"])
    sessions._load_calendar.cache_clear()
    with pytest.raises(ModuleNotFoundError, match="ny_stock_exchange is not where it was in the package holidays"):
        sessions._load_calendar()
