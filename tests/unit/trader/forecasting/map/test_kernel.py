"""The compiled search: it finds what the reference finds, with the same bits everywhere, and is refused if damaged."""

import logging
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from scripts.bench import engines
from scripts.data import kernel as building
from tests.builders import daily
from tests.unit.trader.forecasting.map.drawn import extreme_series, series, walk
from trader.forecasting.map import kernel, model
from trader.forecasting.map.forecaster import local_ns
from trader.forecasting.map.kernel import Kernel, Rows
from trader.forecasting.map.model import Batch, Calendar, Fit, Scales
from trader.forecasting.map.posterior_mode import Floats

TREND, WEEKLY, ALL = ("yearly",), ("yearly", "weekly"), ("yearly", "weekly", "daily")
USUAL = Scales()


def calendar(bars: int, allowed: Sequence[str] = TREND) -> Calendar:
    return Calendar.of(local_ns(pd.DatetimeIndex(daily([1.0] * bars).index)), allowed)


def search(on: Calendar, values: Floats, begin: kernel.Words | None = None, scales: Scales = USUAL) -> Rows:
    library = kernel.load()
    assert library is not None
    priors = model.LINE_SCALE**-2, scales.seasonality**-2, 1 / scales.changepoint
    return library.fit([(on.grid, values)], *priors, begin)


def is_same(one: Rows, other: Rows) -> bool:
    """Return whether two results have the same bits; their paths may differ."""
    parts = ("parameters", "line", "numbers", "status")
    return all(getattr(one, part).tobytes() == getattr(other, part).tobytes() for part in parts)


def by_reference(batch: Batch, scales: Scales = USUAL) -> tuple[Fit | str, ...]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "load", lambda: None)
        return model.fit([batch], scales).fits


# --- what it finds -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.01, 0.05, 0.5])
@pytest.mark.parametrize(
    ("bars", "allowed"), [(40, TREND), (250, TREND), (250, WEEKLY), (800, WEEKLY)], ids=lambda each: str(each)
)
def test_its_models_are_the_references(bars: int, allowed: Sequence[str], scale: float) -> None:
    closes = engines.closes(60, bars)
    batch = Batch(
        calendar=Calendar.of(local_ns(pd.DatetimeIndex(next(iter(closes.values())).index)), allowed),
        values=np.stack([each.to_numpy(float) for each in closes.values()]),
    )
    scales = Scales(changepoint=scale)
    for ours, theirs in zip(model.fit([batch], scales).fits, by_reference(batch, scales), strict=True):
        assert isinstance(ours, Fit)
        assert isinstance(theirs, Fit)
        assert ours.has_another == theirs.has_another
        assert ours.sigma == pytest.approx(theirs.sigma, rel=1e-9)
        assert ours.scale == theirs.scale
        level = (ours.mean_season, theirs.mean_season) if allowed is WEEKLY else (0.0, 0.0)
        assert ours.corners + level[0] == pytest.approx(theirs.corners + level[1], rel=1e-8)
        assert ours.parameters == pytest.approx(theirs.parameters, abs=1e-6)
        assert ((ours.changes == 0) == (theirs.changes == 0)).all()


@examples(max_examples=150)
@given(st.data())
def test_it_finds_a_model_wherever_the_reference_does(data: st.DataObject) -> None:
    on = calendar(data.draw(st.sampled_from([30, 60])), data.draw(st.sampled_from([TREND, WEEKLY])))
    batch = Batch(calendar=on, values=data.draw(series(len(on.times_ns)))[None])
    (ours,), (theirs,) = model.fit([batch]).fits, by_reference(batch)
    if isinstance(theirs, Fit):
        assert isinstance(ours, Fit)
        level, other = (each.mean_season for each in (ours, theirs))
        assert ours.corners + level == pytest.approx(theirs.corners + other, rel=1e-6)
    elif isinstance(ours, str):
        assert ours.split(":")[0] == theirs.split(":")[0]
    else:  # it is more precise, and so finds more
        assert theirs.startswith("its mode was not found")
        assert ours.residual < model.CONVERGED


def fit_walks(bars: int) -> list[tuple[Fit | str, Fit | str]]:
    batch = Batch(calendar=calendar(bars), values=np.stack([walk(seed, bars) for seed in range(100)]))
    return list(zip(model.fit([batch]).fits, by_reference(batch), strict=True))


@pytest.mark.parametrize("bars", [6, 8, 12])
def test_with_hardly_any_bars_it_finds_more_often_what_the_reference_finds(bars: int) -> None:
    pairs = fit_walks(bars)
    ours, theirs = (sum(isinstance(fit, Fit) for fit in fits) for fits in zip(*pairs, strict=True))
    assert ours >= theirs
    both = [(ours.sigma, theirs.sigma) for ours, theirs in pairs if isinstance(ours, Fit) and isinstance(theirs, Fit)]
    assert [ours for ours, _ in both] == pytest.approx([theirs for _, theirs in both], rel=1e-6)


@pytest.mark.parametrize("bars", [3, 4, 5])
def test_with_too_few_bars_for_a_mode_it_says_so(bars: int) -> None:
    # The reference finds a few of them, others on each processor: rounding decides.
    fits = [ours for ours, _ in fit_walks(bars)]
    assert [fit for fit in fits if isinstance(fit, Fit)] == []
    assert {fit.split(":")[0] for fit in fits if isinstance(fit, str)} == {"its mode was not found"}


def test_its_own_residual_is_that_of_optimality() -> None:
    on, values = calendar(800, WEEKLY), np.stack([walk(seed, 800) for seed in range(10)])
    found = search(on, values)
    sigma, scale, residual, _ = found.numbers.T
    theirs = model.optimality(
        on.columns,
        values / scale[:, None],
        found.parameters.reshape(10, -1),
        sigma**2,
        on.ridge(USUAL),
        on.lasso(USUAL),
    )
    assert residual == pytest.approx(theirs, abs=5e-9)


def test_its_line_and_season_are_those_of_its_parameters() -> None:
    on = calendar(800, WEEKLY)
    found = search(on, walk(3, 800)[None])
    fit = Fit(calendar=on, parameters=found.parameters, sigma=1, scale=found.numbers[0, 1], residual=0)
    assert found.line == pytest.approx(fit.corners, rel=1e-12)
    assert found.numbers[0, 3] == pytest.approx(fit.mean_season, rel=1e-9)


@pytest.mark.parametrize("begin", ["2022-01-03", "1969-12-29"])
def test_its_fourier_terms_are_exact(begin: str) -> None:
    times_ns = pd.date_range(begin, periods=3000, freq="15min").as_unit("ns").asi8
    on = Calendar.of(times_ns, ALL)
    library = kernel.load()
    assert library is not None
    assert library.waves(on.grid.seasons, times_ns) == pytest.approx(on.columns[:, on.line_size :], abs=2e-15)


# --- the same bits -------------------------------------------------------------------------------------------------


def test_a_result_does_not_depend_on_where_the_search_begins() -> None:
    closes = engines.closes(20, 400)
    times_ns = local_ns(pd.DatetimeIndex(next(iter(closes.values())).index))
    values: Floats = np.stack([each.to_numpy(float) for each in closes.values()])
    path = None
    for end in range(250, 400):
        on, window = Calendar.of(times_ns[end - 250 : end], TREND), values[:, end - 250 : end]
        begun, cold = search(on, window, path), search(on, window)
        assert is_same(begun, cold), end
        path = begun.path


@examples(max_examples=100)
@given(st.data())
def test_no_path_changes_a_result(data: st.DataObject) -> None:
    on = calendar(60, data.draw(st.sampled_from([TREND, WEEKLY])))
    values, other = data.draw(series(60))[None], data.draw(series(60))[None]
    assert is_same(search(on, values, search(on, other).path), search(on, values))


def test_threads_find_the_same_models() -> None:
    on = calendar(120)
    many = [np.stack([walk(seed, 120) for seed in range(first, first + 20)]) for first in range(0, 400, 20)]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda some: search(on, some), many))
    assert all(is_same(found, search(on, some)) for found, some in zip(together, many, strict=True))


# --- the files -----------------------------------------------------------------------------------------------------


def test_the_checksums_are_those_of_the_source_and_the_libraries() -> None:
    files = [file for file in kernel.FOLDER.iterdir() if file.name != kernel.SUMS]
    assert {file.name: building.hash_file(file) for file in files} == kernel.read_sums()  # if not: make kernel


def test_every_system_of_the_loader_has_a_library() -> None:
    assert set(kernel.LIBRARIES.values()) == set(building.TARGETS)


@pytest.mark.parametrize("name", [name for name in building.TARGETS if name.startswith("linux")])
def test_a_library_for_linux_needs_no_other_library(name: str) -> None:
    with (kernel.FOLDER / name).open("rb") as stream:
        file: Any = ELFFile(stream)
        symbols = file.get_section_by_name(".dynsym").iter_symbols()
        assert [each.name for each in symbols if each.name and each["st_shndx"] == "SHN_UNDEF"] == []
        assert list(file.get_section_by_name(".dynamic").iter_tags("DT_NEEDED")) == []


@pytest.mark.slow
def test_building_it_again_gives_the_same_bytes(tmp_path: Path) -> None:
    built = building.build(tmp_path)
    assert set(built) == {*building.TARGETS, kernel.SUMS}
    assert [name for name, file in built.items() if file.read_bytes() != (kernel.FOLDER / name).read_bytes()] == []


# --- a library that cannot be used ---------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a copy of the libraries' folder, which the engine loads from."""
    copied = tmp_path / "compiled"
    shutil.copytree(kernel.FOLDER, copied)
    monkeypatch.setattr(kernel, "FOLDER", copied)
    kernel.load.cache_clear()
    yield copied
    kernel.load.cache_clear()


def own_library(folder: Path) -> Path:
    return folder / kernel.LIBRARIES[sys.platform, platform.machine()]


def damage(folder: Path) -> None:
    content = bytearray(own_library(folder).read_bytes())
    content[len(content) // 2] ^= 1
    own_library(folder).write_bytes(content)


def delete(folder: Path) -> None:
    own_library(folder).unlink()


def forget_sums(folder: Path) -> None:
    (folder / kernel.SUMS).unlink()


def damage_sums(folder: Path) -> None:
    (folder / kernel.SUMS).write_bytes(b"\xff" + (folder / kernel.SUMS).read_bytes())


def shorten_sums(folder: Path) -> None:
    sums = kernel.read_sums(folder)
    (folder / kernel.SUMS).write_text("".join(f"{sums[name]}  {name}\n" for name in sums if name != kernel.SOURCE))


def replace(content: bytes, folder: Path) -> None:
    """Put another file in the library's place, with a checksum of its own."""
    file = own_library(folder)
    file.write_bytes(content)
    sums = {**kernel.read_sums(folder), file.name: building.hash_file(file)}
    (folder / kernel.SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()))


def for_another_processor(folder: Path) -> None:
    others = {name for name in kernel.LIBRARIES.values() if name.endswith(".so")} - {own_library(folder).name}
    replace((folder / others.pop()).read_bytes(), folder)


@pytest.mark.skipif(sys.platform != "linux", reason="spoils a library for Linux")
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (damage, "is damaged: its SHA-256 is "),
        (delete, "cannot be read: No such file or directory"),
        (forget_sums, "cannot be read: No such file or directory"),
        (damage_sums, "libraries.sha256 is damaged: "),
        (shorten_sums, "libraries.sha256 is damaged: it lacks search.c or "),
        (for_another_processor, "cannot be loaded: "),
        (lambda folder: replace(b"", folder), "cannot be loaded: "),
    ],
    ids=[
        *("damaged", "deleted", "without checksums", "with damaged checksums", "without its source's checksum"),
        *("of another processor", "empty"),
    ],
)
def test_without_a_usable_library_the_reference_is_used_and_the_log_says_why(
    folder: Path, spoil: Callable[[Path], None], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    batch = Batch(calendar=calendar(120), values=walk(1)[None])
    (wanted,) = by_reference(batch)
    spoil(folder)
    for _ in range(2):
        (found,) = model.fit([batch]).fits
        assert isinstance(found, Fit)
        assert isinstance(wanted, Fit)
        assert found.parameters.tobytes() == wanted.parameters.tobytes()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.message.startswith("engine: the reference search in NumPy, much slower than the compiled one: ")
    assert said in record.message


def test_the_engine_is_named_after_the_library_that_was_loaded_whatever_becomes_of_its_files(folder: Path) -> None:
    before = kernel.name_engine()
    shutil.rmtree(folder)
    assert kernel.name_engine() == before
    assert before.startswith("map, compiled from ")


@pytest.mark.parametrize("machine", ["riscv64", ""])
def test_a_machine_without_a_library_has_the_reference(
    folder: Path, machine: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert kernel.load() is None
    assert f"there is none for {sys.platform} on {machine or 'an unknown processor'}" in caplog.text


def test_a_library_with_another_interface_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kernel, "INTERFACE", 99)
    assert kernel.load() is None
    assert "has interface 1, not 99" in caplog.text


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([0, 20, 10, 39], "nodes must rise from bar 0"),
        ([0, 20, 20, 39], "nodes must rise from bar 0"),
        ([-1, 20, 39], "nodes must rise from bar 0"),
        ([0, *range(5, 35), 39], "32 nodes"),
        ([0, 39], "2 nodes"),
    ],
    ids=["falling", "twice the same", "before the first bar", "too many", "too few"],
)
def test_nodes_that_the_library_has_no_room_for_are_refused(nodes: list[int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        kernel.Nodes(np.array(nodes))


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ([(1000, 18)], "36 Fourier terms; at most 34 are allowed"),
        ([(1000, 20), (1000, -3)], "periods and orders must be positive"),
        ([(0, 1)], "periods and orders must be positive"),
    ],
    ids=["too many", "a negative order", "no period"],
)
def test_seasons_that_the_library_has_no_room_for_are_refused(table: list[tuple[int, int]], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        kernel.Seasons(table)


@pytest.mark.parametrize(
    ("last", "values", "said"),
    [
        (40, np.ones((1, 40)), "the last node must be bar 39, not 40"),
        (39, np.ones((1, 39)), "but there are 40 bars"),
        (39, np.ones(40), "but there are 40 bars"),
    ],
    ids=["beyond the last bar", "a bar too few", "one dimension"],
)
def test_what_would_leave_its_memory_is_not_asked(last: int, values: Floats, said: str) -> None:
    library = kernel.load()
    assert library is not None
    nodes = kernel.Nodes(np.array([0, 5, last]))
    grid = kernel.Grid(times_ns=calendar(40).times_ns, nodes=nodes, seasons=kernel.Seasons())
    with pytest.raises(ValueError, match=said):
        library.fit([(on.grid, np.ones((2, 40))) for on in [calendar(40)]] + [(grid, values)], 0.04, 0.01, 20)


def test_what_is_checked_cannot_be_changed_afterwards() -> None:
    grid = calendar(800, WEEKLY).grid
    for array in (grid.nodes.places, grid.seasons.table):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 7


def test_a_path_of_another_series_too_few_is_not_read() -> None:
    values = np.stack([walk(seed) for seed in range(3)])
    with pytest.raises(ValueError, match=r"paths have the shape \(2, 130\), not \(3, 130\)"):
        search(calendar(120), values, search(calendar(120), values).path[:2])


@pytest.mark.parametrize("change", [np.asfortranarray, lambda each: each[::-1][::-1], lambda each: each.astype(">f8")])
def test_values_in_another_order_or_form_have_the_same_models(change: Callable[[Floats], Floats]) -> None:
    values = np.stack([walk(seed) for seed in range(3)])
    assert is_same(search(calendar(120), change(values)), search(calendar(120), values))


def test_values_that_are_not_aligned_have_the_same_models() -> None:
    values = np.stack([walk(seed) for seed in range(3)])
    room = np.zeros(values.nbytes + 1, np.uint8)[1:].view()
    shifted = np.frombuffer(room.data, np.float64, values.size).reshape(values.shape)
    shifted[:] = values
    assert not shifted.flags.aligned
    assert is_same(search(calendar(120), shifted), search(calendar(120), values))


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_series_of_several_calendars_are_found_in_one_call_as_alone(threads: int) -> None:
    calendars = [calendar(60), calendar(3), calendar(800, WEEKLY), calendar(61), calendar(120)]
    many = [
        np.stack([walk(seed, len(on.times_ns)) for seed in range(rows)])
        for on, rows in zip(calendars, (3, 1, 4, 1, 5), strict=True)
    ]
    library = kernel.load()
    assert library is not None
    asked = [(on.grid, values) for on, values in zip(calendars, many, strict=True)]
    alone = [search(on, values) for on, values in zip(calendars, many, strict=True)]
    priors = model.LINE_SCALE**-2, USUAL.seasonality**-2, 1 / USUAL.changepoint
    for begin in (None, np.concatenate([each.path for each in alone])):
        together = library.fit(asked, *priors, begin, threads)
        for part in ("parameters", "line", "numbers", "status"):
            assert getattr(together, part).tobytes() == b"".join(getattr(each, part).tobytes() for each in alone)


# --- on other processors, and under sanitizers ---------------------------------------------------------------------


def asked(count: int, draw: Callable[[int], tuple[Calendar, Floats]]) -> list[tuple[Calendar, Floats, Any]]:
    """Return requests: first without paths, then the same ones with the paths that these have led to."""
    some = [draw(place) for place in range(count)]
    return [(*each, None) for each in some] + [(on, values, search(on, values).path) for on, values in some]


def packed(on: Calendar, values: Floats, begin: kernel.Words | None) -> bytes:
    """Return a request as run_search.c reads it."""
    grid = on.grid
    counts = grid.nodes.count, grid.seasons.waves, grid.seasons.count
    head = [len(grid.times_ns), *counts, len(values), int(begin is not None)]
    priors = [model.LINE_SCALE**-2, USUAL.seasonality**-2, 1 / USUAL.changepoint]
    places = grid.times_ns, grid.nodes.places, grid.seasons.table
    arrays = [np.asarray(head, np.int64), np.asarray(priors), *places, values]
    return b"".join(np.ascontiguousarray(each).tobytes() for each in arrays) + (
        b"" if begin is None else begin.tobytes()
    )


def answer(on: Calendar, values: Floats, begin: kernel.Words | None) -> bytes:
    found = search(on, values, begin)
    parts = (found.parameters, found.line, found.numbers, found.status, found.path)
    return b"".join(each.tobytes() for each in parts)


def run(words: Sequence[str], requests: Sequence[tuple[Calendar, Floats, Any]]) -> bytes:
    ended = subprocess.run(words, input=b"".join(packed(*each) for each in requests), capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr.decode()[-4000:]
    return ended.stdout


def market(place: int) -> tuple[Calendar, Floats]:
    """Return series of one of several kinds and lengths, the 100,000 bars of an intraday file among them."""
    bars = (30, 60, 120, 250, 800, 3, 4, 7)[place % 8]
    on = calendar(bars, (TREND, WEEKLY)[place // 8 % 2])
    return on, np.stack([walk(seed, bars) for seed in range(place, place + 5)])


def strange(place: int) -> tuple[Calendar, Floats]:
    """Return series with values of any kind and size."""
    bars = (3, 4, 30, 60, 250)[place % 5]
    on = calendar(bars, (TREND, WEEKLY, ALL)[place // 5 % 3])
    found: list[Floats] = []

    @examples(max_examples=12, database=None, derandomize=True)
    @given(st.one_of(series(bars), extreme_series(bars)))
    def collect(values: Floats) -> None:
        found.append(values)

    collect()
    return on, np.stack(found)


def long(bars: int = 100_000) -> tuple[Calendar, Floats]:
    times_ns = pd.date_range("2014-01-06", periods=bars, freq="15min").as_unit("ns").asi8
    return Calendar.of(times_ns, ALL), np.stack([walk(1, bars), np.full(bars, 7.0)])


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("qemu-aarch64"), reason="needs qemu-user, which runs programs for aarch64")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="compares with x86_64")
def test_another_processor_finds_the_same_bits(tmp_path: Path) -> None:
    building.install()
    here = Path(__file__).parent
    flags = [each for each in building.FLAGS if each not in {"-shared", "-fvisibility=hidden", "-s"}]
    target = ["-target", "aarch64-linux-musl", "-static", "-I", str(kernel.FOLDER)]
    building.compile_c(tmp_path, [*flags, *target, "-o", "run", str(here / "run_search.c")])
    requests = asked(16, market) + asked(15, strange) + asked(1, lambda _: long(20_000))
    assert run(["qemu-aarch64", str(tmp_path / "run")], requests) == b"".join(answer(*each) for each in requests)


@pytest.mark.slow
def test_no_input_makes_it_leave_its_memory_or_do_what_c_leaves_undefined(tmp_path: Path) -> None:
    if not (compiler := shutil.which("clang") or shutil.which("gcc")):
        pytest.skip("needs clang or gcc, which have the sanitizers")
    sanitizers = ["-fsanitize=address,undefined,bounds", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
    words = ["-O1", "-g", "-std=c11", "-ffp-contract=off", *sanitizers, "-I", str(kernel.FOLDER)]
    program = tmp_path / "run"
    built = subprocess.run(
        [compiler, *words, "-o", str(program), str(Path(__file__).parent / "run_search.c"), "-lm"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    requests = asked(16, market) + asked(15, strange) + asked(1, lambda _: long())
    assert run([str(program)], requests) == b"".join(answer(*each) for each in requests)


def test_a_loaded_library_is_used() -> None:
    if os.environ.get("CI") or (sys.platform, platform.machine()) in kernel.LIBRARIES:
        assert isinstance(kernel.load(), Kernel)
