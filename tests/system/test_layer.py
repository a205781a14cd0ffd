"""A real layer: the contents of its zip, the function running from it, and the faults that verification catches."""

import functools
import os
import re
import shutil
import stat
import subprocess
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

from scripts import ROOT
from scripts.layer import manifest, sandbox, verify
from scripts.layer.archive import unpack
from scripts.layer.build import build
from scripts.layer.prune import prune, read_rules
from scripts.layer.sandbox_checks import Findings
from scripts.layer.target import BUILD, BrokenLayerError, LayerError, Target
from scripts.layer.wheels import ensure_installed
from scripts.testkit import lambda_runtime
from trader.progress import no_progress

TARGET = Target("3.13", "x86_64")
pytestmark = pytest.mark.skipif(not TARGET.runs_here, reason="left out: the layer's programs run only on Linux x86_64")

PLAIN = BUILD / f"plain-python{TARGET.python}-{TARGET.arch}"
"""The packages as installed from their wheels, from which the layer is built."""

MODEL = "python/prophet/stan_model/prophet_model.bin"
LICENCE = re.compile(r"licen[cs]e|copying|notice|authors|contributors", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Layer:
    """A built zip, its table of contents, and the folder in or below which it was built."""

    zip: Path
    entries: Sequence[zipfile.ZipInfo]
    work: Path

    @property
    def names(self) -> set[str]:
        return {entry.filename for entry in self.entries}

    def contents(self, suffix: str = "") -> Iterator[tuple[str, bytes]]:
        """Yield name and bytes of each file whose name ends with `suffix`."""
        with zipfile.ZipFile(self.zip) as archive:
            for entry in self.entries:
                if entry.filename.endswith(suffix):
                    yield entry.filename, archive.read(entry)


@pytest.fixture(scope="module")
def layer(tmp_path_factory: pytest.TempPathFactory) -> Layer:
    """Return the layer that `make layer` has built from the current sources; if there is none, build one."""
    ensure_installed(TARGET, PLAIN)
    if manifest.reason_to_build(TARGET):
        work = tmp_path_factory.mktemp("work")
        zip_file = build(TARGET, work, no_progress).zip
    else:
        work, zip_file = BUILD, TARGET.zip
    with zipfile.ZipFile(zip_file) as archive:
        return Layer(zip_file, archive.infolist(), work)


@pytest.fixture(scope="module", autouse=True)
def _make_run_decides_once() -> Iterator[None]:
    """Compute the decisions of `make run` once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify, "decisions_of_make_run", functools.cache(verify.decisions_of_make_run))
        yield


# --- contents ---


def test_the_unpacked_layer_is_within_its_budget(layer: Layer) -> None:
    assert sum(entry.file_size for entry in layer.entries) <= 100_000_000


def test_the_zipped_layer_is_within_its_budget(layer: Layer) -> None:
    assert layer.zip.stat().st_size <= 36_000_000


def test_every_file_is_in_the_folder_where_lambda_looks(layer: Layer) -> None:
    assert {PurePosixPath(name).parts[0] for name in layer.names} == {"python"}


def test_every_file_is_readable_by_all_and_writable_by_its_owner(layer: Layer) -> None:
    modes = {entry.external_attr >> 16 for entry in layer.entries}
    assert modes == {stat.S_IFREG | 0o644, stat.S_IFREG | 0o755}


def test_only_prophets_model_is_executable(layer: Layer) -> None:
    assert [entry.filename for entry in layer.entries if entry.external_attr >> 16 & 0o111] == [MODEL]


def test_files_are_sorted_by_name(layer: Layer) -> None:
    names = [entry.filename for entry in layer.entries]
    assert names == sorted(names)


def test_every_file_has_the_same_date(layer: Layer) -> None:
    assert {entry.date_time for entry in layer.entries} == {(1980, 1, 1, 0, 0, 0)}


def test_the_layer_contains_time_zones(layer: Layer) -> None:
    assert "python/tzdata/zoneinfo/America/New_York" in layer.names


def test_every_module_has_its_bytecode(layer: Layer) -> None:
    tag = f"cpython-{TARGET.python.replace('.', '')}"
    modules = [PurePosixPath(name) for name in layer.names if name.endswith(".py")]
    assert [each for each in modules if f"{each.parent}/__pycache__/{each.stem}.{tag}.pyc" not in layer.names] == []


def test_bytecode_is_used_without_checking_its_source(layer: Layer) -> None:
    flags = {code[4:8] for _, code in layer.contents(".pyc")}
    assert flags == {b"\x01\x00\x00\x00"}, "PEP 552: 0 is a timestamp, 1 an unchecked hash, 3 a checked hash"


def test_no_module_has_its_source(layer: Layer) -> None:
    left = {source for _, source in layer.contents(".py")}
    assert left == {b"raise ImportError('the layer has bytecode for Python 3.13 only, and no sources')\n"}


def test_docstrings_stay_only_where_an_import_reads_them(layer: Layer) -> None:
    numpys, pandass = b"Compute the arithmetic mean along the specified axis.", b"Two-dimensional, size-mutable"
    found = {words: [name for name, code in layer.contents(".pyc") if words in code] for words in (numpys, pandass)}
    assert found[pandass] == []
    assert "python/numpy/_core/__pycache__/fromnumeric.cpython-313.pyc" in found[numpys]


IMPORT_ALL = """
import contextlib, importlib, io, pathlib, sys
root = pathlib.Path(sys.argv[1])
sys.path.insert(0, str(root))
paths = (path.relative_to(root).with_suffix("") for path in root.rglob("*.py") if path.stem != "__main__")
for name in sorted(".".join(path.parts).removesuffix(".__init__") for path in paths):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            importlib.import_module(name)
        except ImportError:  # of what is left out
            print(name, file=sys.__stdout__)
        except BaseException as error:
            print(name, type(error).__name__, error, file=sys.__stdout__)
"""


def import_all(tree: Path) -> str:
    """Import all modules of a tree; return the names of those that fail, with their errors."""
    command = [str(TARGET.interpreter()), "-I", "-S", "-B", "-W", "ignore", "-c", IMPORT_ALL, str(tree)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def link(source: str, target: str) -> None:
    """Give a file another name that nothing writes to; copy it if that is on another file system."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


@pytest.mark.slow
def test_every_module_is_imported_as_with_its_source_and_its_docstrings(layer: Layer, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(PLAIN, whole, copy_function=link)
    prune(whole, read_rules())
    for folder in sorted((each for each in whole.rglob("*") if each.is_dir()), reverse=True):
        if not any(folder.iterdir()):  # Python takes an empty folder for a package, and a zip has none
            folder.rmdir()
    unpack(layer.zip, tmp_path / "layer")
    assert import_all(tmp_path / "layer" / "python") == import_all(whole)


@pytest.fixture(scope="module")
def unpacked(layer: Layer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the files of the layer, which tests leave as they are."""
    folder = tmp_path_factory.mktemp("unpacked")
    unpack(layer.zip, folder)
    return folder


@pytest.fixture
def _unpacked_already(unpacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let verification find the layer unpacked, for tests of what comes after."""
    folder = tmp_path / "verify"
    (folder / "task").mkdir(parents=True)
    (folder / "layer").symlink_to(unpacked)
    monkeypatch.setattr(verify, "unpack_zips", lambda _zip_file: nullcontext(folder))


def run_from(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script that can import from nothing else but an unpacked layer."""
    script = f"import sys; sys.path.insert(0, {str(folder / 'python')!r})\n{script}"
    command = [str(TARGET.interpreter()), "-I", "-S", "-B", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_traceback_names_file_and_line(unpacked: Path) -> None:
    done = run_from(unpacked, "import dateutil.parser\ndateutil.parser.parse('no date')")
    source = (PLAIN / "dateutil/parser/_parser.py").read_text(encoding="utf-8").splitlines()
    line = next(number for number, each in enumerate(source, 1) if 'raise ParserError("Unknown string format' in each)
    assert f'File "{unpacked}/python/dateutil/parser/_parser.py", line {line}, in parse\n' in done.stderr
    assert "dateutil.parser._parser.ParserError: Unknown string format: no date" in done.stderr


def test_without_its_plots_pandas_says_that_matplotlib_is_required(unpacked: Path) -> None:
    done = run_from(unpacked, "import pandas\npandas.Series([1]).plot()")
    assert "ImportError: matplotlib is required for plotting when the default backend" in done.stderr


def test_botocore_uses_the_certificates_of_certifi(unpacked: Path) -> None:
    done = run_from(unpacked, "from botocore.httpsession import get_cert_path\nprint(get_cert_path(True))")
    assert done.stdout == f"{unpacked}/python/certifi/cacert.pem\n"


def test_no_file_reveals_where_it_was_built(layer: Layer) -> None:
    places = [str(place).encode() for place in (layer.work, BUILD, ROOT)]
    assert [name for name, content in layer.contents() if any(place in content for place in places)] == []


def test_every_package_keeps_its_licences(layer: Layer) -> None:
    shipped = {path.parts[1] for path in map(PurePosixPath, layer.names) if path.parts[1].endswith(".dist-info")}
    came = [file for folder in shipped for file in (PLAIN / folder).rglob("*") if file.is_file()]
    licences = {
        f"python/{file.relative_to(PLAIN)}" for file in came if "licenses" in file.parts or LICENCE.search(file.name)
    }
    assert licences - layer.names == set()
    assert len(licences) >= len(shipped)


def test_the_licence_of_tbb_stays_though_its_sources_are_removed(layer: Layer) -> None:
    cmdstan = {name for name in layer.names if "/cmdstan-" in name and name.endswith("/LICENSE")}
    (licence,) = (PLAIN / "prophet/stan_model").glob("cmdstan-*/stan/lib/stan_math/lib/tbb_*/LICENSE")
    assert cmdstan == {f"python/licences/{licence.relative_to(PLAIN)}"}


# --- running the function ---


@pytest.fixture(scope="module")
def findings(layer: Layer) -> Findings:
    """Measure the function as it runs from the layer, with all of Lambda's restrictions available here."""
    verdict = verify.verify(TARGET, layer.zip, no_progress)
    assert verdict.findings is not None, verdict.not_run
    return verdict.findings


def test_the_function_starts_from_the_layer_in_a_measured_time(findings: Findings) -> None:
    assert 0 < findings.init_ms < lambda_runtime.TIMEOUT_S * 1000


def test_the_function_holds_little_memory_after_init(findings: Findings) -> None:
    assert 10 < findings.after_init_mb < 150


def test_a_run_fits_into_a_small_function(findings: Findings) -> None:
    assert findings.after_init_mb <= findings.peak_mb < 300


def test_all_of_lambdas_restrictions_held_during_the_run(findings: Findings) -> None:
    if (why := sandbox.missing()) and os.environ.get("CI") != "true":
        pytest.skip(f"left out: {why}")
    assert {wall: holds for wall, holds in findings.enforced.items() if not holds} == {}
    assert len(findings.enforced) == 6


@pytest.mark.usefixtures("_unpacked_already")
def test_a_layer_compiled_for_another_architecture_is_refused(layer: Layer) -> None:
    with pytest.raises(BrokenLayerError, match=r"is compiled for \w+, not for arm64"):
        verify.verify(Target("3.13", "arm64"), layer.zip, no_progress)


# --- faults that verification catches ---

type Sabotage = Callable[..., Path]


@pytest.fixture
def sabotage(layer: Layer, tmp_path: Path) -> Sabotage:
    """Return a function that copies the layer, uncompressed, without a folder or with another mode for a file."""

    def spoilt(*, without: str = "", of: str = "", mode: int = 0) -> Path:
        copy, touched = tmp_path / "spoilt.zip", 0
        with zipfile.ZipFile(layer.zip) as whole, zipfile.ZipFile(copy, "w") as rest:
            for entry in whole.infolist():
                is_out, is_changed = bool(without) and entry.filename.startswith(without), entry.filename == of
                touched += is_out or is_changed
                if is_out:
                    continue
                content = whole.read(entry)
                entry.compress_type = zipfile.ZIP_STORED
                entry.external_attr = (stat.S_IFREG | mode) << 16 if is_changed else entry.external_attr
                rest.writestr(entry, content)
        assert touched, "the layer has nothing of that name"
        return copy

    return spoilt


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "check", "because"),
    [
        ("python/tenacity/", "the handler starts", "No module named 'tenacity'"),
        ("python/certifi/cacert.pem", "the handler starts", "load_verify_locations"),
        ("python/tzdata/", "the handler starts", "No time zone found with key America/New_York"),
    ],
)
def test_a_missing_package_fails_verification(sabotage: Sabotage, folder: str, check: str, because: str) -> None:
    with pytest.raises(LayerError, match=rf'(?s)^verification failed at "{check}":.*{because}'):
        verify.verify(TARGET, sabotage(without=folder), no_progress)


@pytest.mark.slow
def test_a_missing_library_fails_verification(sabotage: Sabotage) -> None:
    with pytest.raises(BrokenLayerError, match=r"prophet_model\.bin needs libtbb-.* which Lambda does not have"):
        verify.verify(TARGET, sabotage(without="python/prophet.libs/"), no_progress)


@pytest.mark.usefixtures("_unpacked_already")
def test_a_failure_to_start_the_emulator_is_not_the_layers_fault(
    layer: Layer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    monkeypatch.setattr(verify, "check_contents", lambda _target, _tree: None)
    monkeypatch.setattr(verify, "fetch_emulator", lambda _target: (nothing, Path("/bin/false")))
    with pytest.raises(LayerError, match="before it listened") as told:
        verify.verify(TARGET, layer.zip, no_progress)
    assert not isinstance(told.value, BrokenLayerError)


@pytest.mark.slow
def test_a_model_that_is_not_executable_fails_verification(sabotage: Sabotage) -> None:
    with pytest.raises(LayerError, match=r'^verification failed at "the sample day gives the decisions of make run"'):
        verify.verify(TARGET, sabotage(of=MODEL, mode=0o644), no_progress)


@pytest.mark.slow
def test_a_file_that_lambdas_user_cannot_read_is_refused(sabotage: Sabotage) -> None:
    file = "python/tenacity/__init__.py"
    with pytest.raises(LayerError, match=f"{file} has mode 600: Lambda's user cannot read it"):
        verify.verify(TARGET, sabotage(of=file, mode=0o600), no_progress)


# --- make verify-layer ---


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path of the finished layer in a temporary repository."""
    for name in ("PYTHON", "ARCH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("scripts.layer.target.DIST", tmp_path / "layer" / "dist")
    monkeypatch.setattr("scripts.layer.target.ROOT", tmp_path)
    TARGET.zip.parent.mkdir(parents=True)
    return TARGET.zip


def unreadable(zip_file: Path) -> bytes:
    """Write a zip that fails the first check; return its bytes."""
    entry = zipfile.ZipInfo("python/prophet.py")
    entry.external_attr = (stat.S_IFREG | 0o600) << 16
    with zipfile.ZipFile(zip_file, "w") as archive:
        archive.writestr(entry, "")
    return zip_file.read_bytes()


def test_a_finished_layer_that_fails_is_put_aside(place: Path) -> None:
    content = unreadable(place)
    with pytest.raises(SystemExit):
        verify.main()
    assert {file.name: file.read_bytes() for file in place.parent.iterdir()} == {f"{place.stem}.failed": content}


def test_a_layer_that_is_put_aside_is_reported_with_its_new_name(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unreadable(place)
    with pytest.raises(SystemExit) as end:
        verify.main()
    said = " ".join(capsys.readouterr().err.split())
    assert end.value.code == 3
    assert said == (
        f"{place.name}: python/prophet.py has mode 600: Lambda's user cannot read it "
        f"the zip is now layer/dist/{place.stem}.failed; make layer builds a new one"
    )


def test_a_missing_layer_is_reported_with_the_way_to_build_it(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        verify.main()
    said = " ".join(capsys.readouterr().err.split())
    assert (end.value.code, said) == (3, f"layer/dist/{place.name} does not exist; build it with make layer")


def test_a_good_layer_stays_in_place_when_something_else_fails(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_reach(_target: Target) -> None:
        raise LayerError("the package index cannot be reached")

    unreadable(place)
    monkeypatch.setattr(verify, "check_archive", lambda _zip_file: None)
    monkeypatch.setattr(verify, "check_contents", lambda _target, _tree: None)
    monkeypatch.setattr(verify, "decisions_of_make_run", dict)
    monkeypatch.setattr(verify, "fetch_emulator", out_of_reach)
    with pytest.raises(SystemExit):
        verify.main()
    assert place.is_file()


def test_the_stand_ins_output_does_not_stop_verification(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    talkative = tmp_path / "python"
    findings = '{"findings": {"init_ms": 1, "after_init_mb": 1, "peak_mb": 1, "run_s": 1, "enforced": {}}}'
    talkative.write_text(f"#!/bin/sh\nhead -c 200000 /dev/zero >&2\necho '{findings}'\n")
    talkative.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(talkative))
    assert verify.run_inside(TARGET, tmp_path, {}, is_walled=False, progress=no_progress).init_ms == 1
