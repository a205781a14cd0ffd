"""The parts of the page: each is the pinned one, or the site is not built."""

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from scripts.docs.browser import parts
from scripts.docs.browser.assembling import zip_code
from scripts.docs.browser.parts import PartError, fetch

pytestmark = pytest.mark.timeout(900)  # the first test fetches the parts if the cache is empty


@pytest.fixture
def cache(site: Path, tmp_path: Path) -> Path:
    """Return a copy of the filled cache."""
    assert site.is_dir()
    return shutil.copytree(parts.CACHE, tmp_path / "cache", ignore=shutil.ignore_patterns("pip", "lock"))


def change(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_without_npm_the_error_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PartError, match="npm is not on the PATH"):
        fetch(tmp_path / "cache")


def test_another_pyodide_than_the_pinned_one_is_refused(cache: Path) -> None:
    change(cache / f"pyodide-{parts.PYODIDE}.tgz")
    with pytest.raises(PartError, match=r"pyodide@.* is not the pinned package"):
        fetch(cache)


def test_another_numpy_than_pyodides_lock_file_names_is_refused(cache: Path) -> None:
    change(next(cache.glob("wheels-*/numpy-*.whl")))
    with pytest.raises(PartError, match=r"numpy-.* is not the wheel that Pyodide's lock file names"):
        fetch(cache)


def test_another_backtrader_than_the_locked_one_is_refused(cache: Path) -> None:
    change(next(cache.glob("pypi-*/backtrader-*.whl")))
    with pytest.raises(PartError, match=r"the wheel of backtrader .* is not the pinned one"):
        fetch(cache)


def test_with_a_filled_cache_nothing_is_fetched(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert {wheel.name for wheel in fetch(cache).wheels} == {*parts.FOR_PYODIDE, *parts.FROM_PYPI}


def test_the_same_code_gives_the_same_zip(site: Path) -> None:
    assert site.is_dir()  # Prophet has been asked
    assert zip_code() == zip_code()


def test_the_zip_has_the_sample_and_no_file_of_this_machine(site: Path) -> None:
    with zipfile.ZipFile(site / "try/python/code.zip") as packed:
        names = packed.namelist()
    assert "trader/data/sample_prices.csv.gz" in names
    assert [name for name in names if not name.startswith(("trader/", "scripts/")) or "__pycache__" in name] == []


def test_every_file_of_the_manifest_is_served_with_its_size(site: Path) -> None:
    manifest = json.loads((site / "try/manifest.json").read_text(encoding="utf-8"))
    served = {path.name: path.stat().st_size for path in (site / "try/python").iterdir()}
    assert (manifest["files"], manifest["bytes"]) == (served, sum(served.values()))


def test_the_license_of_every_part_is_served(site: Path) -> None:
    folder = site / "try/licenses"
    texts = [path.name for path in folder.iterdir()]
    lacking = [name for name in (*parts.FOR_PYODIDE, *parts.FROM_PYPI) if not any(t.startswith(name) for t in texts)]
    assert lacking == []
    assert "GNU GENERAL PUBLIC LICENSE" in (folder / "backtrader-LICENSE.txt").read_text(encoding="utf-8")
