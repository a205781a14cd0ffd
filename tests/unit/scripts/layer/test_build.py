import hashlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from scripts import ROOT
from scripts.layer import build, target, verify
from scripts.layer.archive import sha256, write_zip
from scripts.layer.build import Built, Part, Stripped, owners_of, sizes_by_owner, workplace
from scripts.layer.bytecode import compile_bare
from scripts.layer.prune import files
from scripts.layer.target import LayerError, Target
from tests.warm.python import python
from trader.progress import Progress

X86_64, ARM64 = Target("3.13", "x86_64"), Target("3.13", "arm64")
HERE = X86_64 if os.uname().machine == "x86_64" else ARM64
linux = pytest.mark.skipif(sys.platform != "linux", reason="the layer's files are ELF, which only Linux runs")


def tree_of(folder: Path, sizes: Mapping[str, int]) -> Path:
    for name, size in sizes.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(bytes(size))
    return folder


def process(*command: str, cwd: Path, fresh: bool = False, **variables: str) -> subprocess.Popen[str]:
    """Start a separate Python process that can import this repository's modules."""
    return subprocess.Popen(
        [*python(fresh=fresh), *command],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT / 'function'}{os.pathsep}{ROOT}", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# --- sizes by package ---


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """Return a folder with two installed packages and a file of the installer."""
    sizes = {"a.py": 100, "b/__init__.py": 20, "b/data.bin": 300, "bin/b": 4, ".lock": 7}
    plain = tree_of(tmp_path / "plain", sizes)
    for name, version, paths in [("a", "1.0", ["a.py"]), ("b", "2.5", ["b/__init__.py", "b/data.bin", "b/../bin/b"])]:
        info = plain / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "RECORD").write_text("".join(f"{file},,\n" for file in [*paths, f"{info.name}/METADATA"]))
    return plain


@pytest.mark.parametrize(
    ("file", "owner"),
    [
        ("a.py", ("a", "1.0")),
        ("b/data.bin", ("b", "2.5")),
        ("bin/b", ("b", "2.5")),
        ("a-1.0.dist-info/METADATA", ("a", "1.0")),
    ],
)
def test_a_file_belongs_to_the_package_that_brought_it(file: str, owner: tuple[str, str], plain: Path) -> None:
    assert owners_of(plain)[file] == owner


def test_a_packages_size_is_that_of_its_files(plain: Path) -> None:
    owners = {"a.py": ("a", "1.0"), "b/__init__.py": ("b", "2.5"), "b/data.bin": ("b", "2.5")}
    sizes = sizes_by_owner(plain, owners)
    assert (sizes["a", "1.0"], sizes["b", "2.5"]) == (100, 320)


def test_a_file_of_no_package_counts_as_the_installers(tmp_path: Path) -> None:
    assert dict(sizes_by_owner(tree_of(tmp_path, {"x": 3, "y/z": 4}), {})) == {("(installer)", ""): 7}


def test_bytecode_counts_with_its_source(plain: Path) -> None:
    cached = (importlib.util.cache_from_source(name) for name in ("a.py", "b/__init__.py"))
    tree_of(plain, dict(zip(cached, (1_000, 5_000), strict=True)))
    owners = {"a.py": ("a", "1.0"), "b/__init__.py": ("b", "2.5")}
    sizes = sizes_by_owner(plain, owners)
    assert (sizes["a", "1.0"], sizes["b", "2.5"]) == (1_100, 5_020)


def test_no_byte_is_counted_twice_or_left_out(plain: Path) -> None:
    total = sum(file.stat().st_size for file in plain.rglob("*") if file.is_file())
    assert sizes_by_owner(plain, owners_of(plain)).total() == total


# --- one build at a time ---


@pytest.fixture
def build_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(build, "BUILD", tmp_path / "build")
    return tmp_path / "build"


def workplaces(build_folder: Path) -> list[Path]:
    return [path for path in build_folder.iterdir() if path.is_dir()]


def test_a_build_gets_an_empty_folder_in_the_build_folder(build_folder: Path) -> None:
    with workplace(HERE) as work:
        assert (work.parent, list(work.iterdir())) == (build_folder, [])


def test_the_folder_is_gone_afterwards(build_folder: Path) -> None:
    with workplace(HERE) as work:
        tree_of(work, {"python/a.py": 1})
    assert workplaces(build_folder) == []


def build_until(fault: type[BaseException]) -> None:
    with workplace(HERE) as work:
        tree_of(work, {"python/a.py": 1})
        raise fault


FAULTS = [ZeroDivisionError, LayerError, KeyboardInterrupt]


@pytest.mark.parametrize("fault", FAULTS)
def test_the_folder_is_gone_after_a_fault(fault: type[BaseException], build_folder: Path) -> None:
    with pytest.raises(fault):
        build_until(fault)
    assert workplaces(build_folder) == []


def test_a_second_build_of_the_same_layer_is_refused(build_folder: Path) -> None:
    with (
        workplace(HERE),
        pytest.raises(LayerError, match=rf"^{HERE.name} is already being built; wait for that build to end$"),
        workplace(HERE),
    ):
        pytest.fail("two builds would write the same files")


def test_a_refused_build_leaves_the_first_ones_folder_alone(build_folder: Path) -> None:
    with workplace(HERE) as work:
        with pytest.raises(LayerError), workplace(HERE):
            pass
        assert workplaces(build_folder) == [work]


def test_another_layer_may_be_built_at_the_same_time(build_folder: Path) -> None:
    with workplace(X86_64) as first, workplace(ARM64) as second:
        assert first != second


def test_a_build_may_follow_another(build_folder: Path) -> None:
    with workplace(HERE):
        pass
    with workplace(HERE) as work:
        assert work.is_dir()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_build_may_follow_a_failed_one(fault: type[BaseException], build_folder: Path) -> None:
    with pytest.raises(fault):
        build_until(fault)
    with workplace(HERE) as work:
        assert work.is_dir()


HOLD = """
import sys, time
from pathlib import Path
from scripts.layer import build
from scripts.layer.target import Target
build.BUILD = Path("build")
with build.workplace(Target(*sys.argv[1:])):
    print("building", flush=True)
    time.sleep(60)
"""


def test_a_killed_build_does_not_block_the_next(build_folder: Path) -> None:
    with process("-c", HOLD, HERE.python, HERE.arch, cwd=build_folder.parent, fresh=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "building\n"
        with pytest.raises(LayerError), workplace(HERE):
            pass
        holder.kill()
        holder.wait()
        with workplace(HERE) as work:
            assert work.is_dir()


# --- stripping ---


def library(folder: Path, name: str) -> Path:
    """Copy a compiled module as its authors ship it, with symbols; return the copy."""
    spec = importlib.util.find_spec("websockets.speedups")
    assert spec
    assert spec.origin
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copyfile(spec.origin, folder / name))


def tools(folder: Path, monkeypatch: pytest.MonkeyPatch, **scripts: str) -> None:
    """Make these one-line scripts the only programs on the PATH."""
    folder.mkdir()
    for name, line in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


@linux
def test_all_compiled_files_are_stripped_wherever_they_are(tmp_path: Path) -> None:
    libraries = [library(tmp_path, name) for name in ("one.so", "pkg/deep/two.so.1", "pkg/program")]
    before = [file.stat().st_size for file in libraries]
    build.strip(HERE, tmp_path)
    assert [after.stat().st_size < size for after, size in zip(libraries, before, strict=True)] == [True] * 3


@linux
def test_the_result_says_how_the_files_were_stripped(tmp_path: Path) -> None:
    for name in ("one.so", "pkg/two.so"):
        library(tmp_path, name)
    told = build.strip(HERE, tmp_path)
    assert (told.files, told.left) == (2, [])
    assert str(told) == f"with {told.tool}, all 2 compiled files"


@linux
def test_a_file_that_is_not_compiled_is_left_alone(tmp_path: Path) -> None:
    library(tmp_path, "one.so")
    (tmp_path / "two.so").write_text("INPUT(one.so)")
    build.strip(HERE, tmp_path)
    assert (tmp_path / "two.so").read_text() == "INPUT(one.so)"


def test_without_a_tool_nothing_is_stripped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = library(tmp_path / "tree", "one.so")
    before = file.read_bytes()
    tools(tmp_path / "bin", monkeypatch)
    build.strip(HERE, tmp_path / "tree")
    assert file.read_bytes() == before


def test_a_missing_strip_tool_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library(tmp_path / "tree", "pkg/one.so")
    tools(tmp_path / "bin", monkeypatch)
    told = build.strip(HERE, tmp_path / "tree")
    assert told == Stripped(tool=None, files=1, left=["pkg/one.so"])
    assert str(told).startswith("NOT STRIPPED: no strip tool here can read these files")


def test_a_file_that_the_tool_cannot_strip_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pkg/one.so", "pkg/two.so"):
        library(tmp_path / "tree", name)
    tools(tmp_path / "bin", monkeypatch, strip='case "$4" in *two*) exit 1;; *) /bin/cp "$4" "$3";; esac')
    told = build.strip(HERE, tmp_path / "tree")
    assert told == Stripped(tool="strip", files=2, left=["pkg/two.so"])
    assert " except pkg/two.so, " in str(told)


def test_a_library_for_another_machine_ends_the_build(tmp_path: Path) -> None:
    other = ARM64 if HERE.arch == "x86_64" else X86_64
    library(tmp_path, "one.so")
    with pytest.raises(LayerError, match=rf"^one\.so is compiled for \w+, not for {other.arch}"):
        build.strip(other, tmp_path)


# --- identical bytes ---

SOURCE = """
COLORS = {"red", "green", "blue", "a longer one", 1.5, None, 12345678901234567890, b"bytes"}
def known(name, *, among=frozenset({"x", "y", "z"})):
    'Tell whether a name is known.'
    return name in {"alpha", "beta", "gamma", "delta", "epsilon"} or name in among or [each for each in COLORS]
class Thing:
    size: int = 3
    def __repr__(self):
        return f"{self.size!r} {known}"
"""
MODULES = ["z.py", "a/__init__.py", "a/b/__init__.py", "a/b/c.py", "m.py", "a/d.py"]


def make_layer(folder: Path, modules: Iterable[str]) -> str:
    """Make a small layer in a folder and return its hash."""
    tree = folder / "python"
    for name in modules:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(f"{SOURCE}NAME = {name!r}\n")
    (tree / "a" / "model.bin").write_bytes(b"\x7fELF" + bytes(100))
    compile_bare(Path(sys.executable), tree, ["a/b"])
    write_zip(folder / "layer.zip", folder, list(files(tree)))
    return sha256(folder / "layer.zip")


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Simulate the shell of another person on the other side of the world."""
    for name, value in {"TZ": "Asia/Tokyo", "PYTHONHASHSEED": "7", "PYTHONOPTIMIZE": "1", "LC_ALL": "C"}.items():
        monkeypatch.setenv(name, value)
    time.tzset()
    before = os.umask(0o077)
    yield
    os.umask(before)
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def layer_here(tmp_path: Path) -> str:
    return make_layer(tmp_path / "here", MODULES)


def test_a_layer_has_identical_bytes_wherever_it_is_built(layer_here: str, elsewhere: None, tmp_path: Path) -> None:
    assert make_layer(tmp_path / "another" / "and much longer" / "place", reversed(MODULES)) == layer_here


# --- the command ---


@pytest.fixture
def layer(build_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replace the build with one that writes a single word, outside the repository; return the layer's path."""

    def fake_build(wanted: Target, work: Path, progress: Progress) -> Built:
        (work / "a.zip").write_text("newer")
        parts = [
            Part(name="big", version="1.0", before_bytes=9_000_000, after_bytes=4_000_000),
            Part(name="gone", version="2.0", before_bytes=5_000_000, after_bytes=0),
        ]
        return Built(zip=work / "a.zip", parts=parts, stripped=Stripped(tool=None, files=1, left=["a.so"]))

    def fake_verify(wanted: Target, zip_file: Path, progress: Progress) -> verify.Verdict:
        return verify.Verdict(findings=None, not_run="this is a test")

    monkeypatch.setattr(target, "DIST", tmp_path / "dist")
    monkeypatch.setattr(target, "ROOT", tmp_path)
    monkeypatch.setattr(build, "build", fake_build)
    monkeypatch.setattr(verify, "verify", fake_verify)
    monkeypatch.setenv("PYTHON", HERE.python)
    monkeypatch.setenv("ARCH", HERE.arch)
    monkeypatch.delenv("JSON", raising=False)
    return HERE.zip


@pytest.fixture
def older(layer: Path) -> Path:
    layer.parent.mkdir()
    layer.write_text("older")
    return layer


def raising(fault: BaseException) -> Callable[..., Built]:
    def stub(*_: object) -> Built:
        raise fault

    return stub


def test_a_layer_that_passes_replaces_the_older_one(older: Path) -> None:
    build.main()
    assert older.read_text() == "newer"


def test_a_layer_is_written_where_there_was_none(layer: Path) -> None:
    build.main()
    assert layer.read_text() == "newer"


@pytest.mark.parametrize("step", [(build, "build"), (verify, "verify")], ids=["building", "verifying"])
@pytest.mark.parametrize("fault", [LayerError("it is not as it must be"), KeyboardInterrupt()], ids=["error", "Ctrl-C"])
def test_an_unfinished_layer_leaves_the_older_one(
    step: tuple[object, str], fault: BaseException, older: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(*step, raising(fault))
    with pytest.raises(SystemExit):
        build.main()
    assert [(path.name, path.read_text()) for path in older.parent.iterdir()] == [(older.name, "older")]


def test_an_error_is_a_sentence_and_an_exit_code(
    layer: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verify, "verify", raising(LayerError("it is not as it must be")))
    with pytest.raises(SystemExit) as ended:
        build.main()
    assert (ended.value.code, capsys.readouterr().err) == (3, "it is not as it must be\n")


def test_the_table_shows_installed_and_final_sizes(layer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build.main()
    rows = [line.split() for line in capsys.readouterr().out.replace("│", " ").replace("┃", " ").splitlines()]
    assert [row for row in rows if row[:1] in (["big"], ["gone"], ["total"])] == [
        ["big", "1.0", "9.0", "4.0"],
        ["gone", "2.0", "5.0", "-"],
        ["total", "14.0", "4.0"],
    ]


def test_a_layer_that_could_not_be_stripped_says_so(layer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build.main()
    assert "stripped  NOT STRIPPED: no strip tool here can read these files" in capsys.readouterr().out


def test_with_json_the_output_is_json_and_nothing_else(
    layer: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JSON", "1")
    build.main()
    told = json.loads(capsys.readouterr().out)
    expected = {
        "zip": f"dist/{layer.name}",
        "sha256": hashlib.sha256(b"newer").hexdigest(),
        "python": HERE.python,
        "architecture": HERE.arch,
        "unpacked_bytes": 4_000_000,
        "zip_bytes": len("newer"),
    }
    assert {name: told[name] for name in expected} == expected


def test_an_unknown_architecture_gives_one_line_and_no_traceback(tmp_path: Path) -> None:
    with process("-m", "scripts", "layer", cwd=tmp_path, ARCH="sparc") as command:
        told, errors = command.communicate(timeout=60)
    assert (command.returncode, told) == (2, "")
    assert errors == "invalid settings:\n  - ARCH=sparc: must be one of x86_64, arm64\n"


STUCK = """
import time
from pathlib import Path
from scripts.layer import build, target
build.BUILD, target.DIST = Path("build"), Path("dist")
def stuck(target, work, progress):
    (work / "half").write_text("half")
    print("building", flush=True)
    time.sleep(60)
build.build = stuck
build.main()
"""


@pytest.fixture(scope="module")
def interruption(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str]:
    """Interrupt a build with Ctrl-C; return its folder, exit code and error output."""
    folder = tmp_path_factory.mktemp("interrupted")
    (folder / "dist").mkdir()
    (folder / "dist" / "layer.zip").write_text("older")
    with process("-c", STUCK, cwd=folder) as command:
        assert command.stdout
        assert command.stdout.readline() == "building\n"
        command.send_signal(signal.SIGINT)
        _, errors = command.communicate(timeout=60)
    return folder, command.returncode, errors


def test_ctrl_c_ends_a_build_with_a_sentence(interruption: tuple[Path, int, str]) -> None:
    assert interruption[1:] == (130, "interrupted; layer/dist is unchanged\n")


def test_ctrl_c_leaves_the_layers_as_they_were(interruption: tuple[Path, int, str]) -> None:
    folder = interruption[0]
    left = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix != ".lock")
    assert left == ["build", "dist", "dist/layer.zip"]


def test_bytecode_without_a_source_counts_by_itself(tmp_path: Path) -> None:
    assert sizes_by_owner(tree_of(tmp_path, {"pkg/alone.pyc": 3}), {"pkg/alone.pyc": ("pkg", "1")}) == {("pkg", "1"): 3}


def test_a_layer_without_compiled_files_needs_no_strip(tmp_path: Path) -> None:
    assert build.strip(X86_64, tree_of(tmp_path, {"a.py": 3})) == Stripped(tool=None, files=0, left=[])


def test_the_next_build_removes_what_a_killed_one_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "BUILD", tmp_path)
    left = tmp_path / f"build-{X86_64.name}-killed" / "python"
    left.mkdir(parents=True)
    with workplace(X86_64):
        assert not left.exists()


def test_a_full_disk_is_reported_with_the_free_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "BUILD", tmp_path)
    with pytest.raises(LayerError, match=r"No space left on device; .* MB are free"), workplace(X86_64):
        Path("/dev/full").write_bytes(b"a")


def fake_build(folder: Path, stripped: Stripped, after_bytes: int) -> Built:
    (folder / "a.zip").write_bytes(b"")
    parts = [Part(name=name, version="1", before_bytes=0, after_bytes=after_bytes // 2) for name in ("numpy", "pandas")]
    return Built(zip=folder / "a.zip", parts=parts, stripped=stripped)


def test_a_layer_over_its_budget_names_the_biggest_parts(tmp_path: Path) -> None:
    large = fake_build(tmp_path, Stripped(tool="strip", files=1, left=[]), 101_000_000)
    with pytest.raises(LayerError, match=r"101,000,000 bytes unpacked, .* numpy 50\.5 MB, pandas 50\.5 MB"):
        build.check_budget(large)


def test_a_layer_whose_zip_is_over_its_budget_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "MAX_ZIP_BYTES", -1)
    with pytest.raises(LayerError, match="0 bytes zipped, but -1 are allowed"):
        build.check_budget(fake_build(tmp_path, Stripped(tool="strip", files=1, left=[]), 0))


def test_the_budget_is_below_lambdas_limits() -> None:
    assert build.MAX_BYTES < verify.LIMIT_BYTES * 0.4
    assert build.MAX_ZIP_BYTES < 50_000_000, "above the limit of a direct upload"
