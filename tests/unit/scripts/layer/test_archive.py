import errno
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from importlib.util import cache_from_source
from pathlib import Path

import pytest

from scripts import ROOT
from scripts.layer.archive import replace_file, sha256, unpack, write_zip
from scripts.layer.package import FUNCTION, contents, package
from scripts.layer.target import BrokenLayerError, LayerError

PROGRAM = b"\x7fELF" + bytes(60)
FILES = {
    "pkg/code.py": b"x = 1\n" * 500,
    "pkg/lib.so": PROGRAM,
    "pkg/tool": PROGRAM,
    "pkg.py": b"",
    "pkg-1.0/NOTE": b"\xff",
    "Zeta.py": b"y = 2\n",
}


@pytest.fixture(autouse=True)
def _umask_stays_with_its_test() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def tree_of(folder: Path, files: dict[str, bytes] = FILES) -> Path:
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return folder


def files_of(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def zip_of(folder: Path, path: Path) -> Path:
    write_zip(path, folder, files_of(folder))
    return path


def entries(path: Path) -> list[zipfile.ZipInfo]:
    with zipfile.ZipFile(path) as archive:
        return archive.infolist()


def mode(entry: zipfile.ZipInfo) -> int:
    return entry.external_attr >> 16


# --- writing ---


def test_the_entries_are_sorted_by_name_whatever_the_order_of_the_files(tmp_path: Path) -> None:
    tree = tree_of(tmp_path / "tree")
    write_zip(tmp_path / "a.zip", tree, sorted(files_of(tree), reverse=True))
    assert [entry.filename for entry in entries(tmp_path / "a.zip")] == sorted(FILES)


def test_the_zip_contains_the_files_unchanged(tmp_path: Path) -> None:
    with zipfile.ZipFile(zip_of(tree_of(tmp_path / "tree"), tmp_path / "a.zip")) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == FILES


def test_all_entries_have_the_same_time(tmp_path: Path) -> None:
    zipped = zip_of(tree_of(tmp_path / "tree"), tmp_path / "a.zip")
    assert {entry.date_time for entry in entries(zipped)} == {(1980, 1, 1, 0, 0, 0)}


def test_no_entry_names_the_folder_it_came_from(tmp_path: Path) -> None:
    zipped = zip_of(tree_of(tmp_path / "tree"), tmp_path / "a.zip")
    assert os.fsencode(tmp_path) not in zipped.read_bytes()


def test_entry_names_are_relative_to_the_root(tmp_path: Path) -> None:
    tree = tree_of(tmp_path / "tree" / "python", {"pkg/code.py": b""})
    write_zip(tmp_path / "a.zip", tree.parent, files_of(tree))
    assert [entry.filename for entry in entries(tmp_path / "a.zip")] == ["python/pkg/code.py"]


def test_every_entry_is_a_compressed_unix_file(tmp_path: Path) -> None:
    zipped = zip_of(tree_of(tmp_path / "tree"), tmp_path / "a.zip")
    kinds = {(entry.create_system, stat.S_IFMT(mode(entry)), entry.compress_type) for entry in entries(zipped)}
    assert kinds == {(3, stat.S_IFREG, zipfile.ZIP_DEFLATED)}


@pytest.mark.parametrize(
    ("name", "starts_with", "expected"),
    [
        ("prophet_model.bin", "\x7fELF", 0o755),
        ("tool", "\x7fELF", 0o755),
        ("lib.so", "\x7fELF", 0o644),
        ("libtbb.so.2", "\x7fELF", 0o644),
        ("_core.cpython-313-x86_64-linux-gnu.so", "\x7fELF", 0o644),
        ("script", "#!/bin/sh", 0o644),
        ("code.py", "x = 1", 0o644),
        ("empty", "", 0o644),
    ],
)
@pytest.mark.parametrize("here", [0o600, 0o777], ids=oct)
def test_programs_are_executable_and_other_files_readable(
    name: str, starts_with: str, expected: int, here: int, tmp_path: Path
) -> None:
    tree = tree_of(tmp_path / "tree", {name: starts_with.encode()})
    (tree / name).chmod(here)
    (entry,) = entries(zip_of(tree, tmp_path / "a.zip"))
    assert oct(mode(entry) & 0o7777) == oct(expected)


def test_each_file_written_advances_the_progress_bar(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    tree = tree_of(tmp_path / "tree", {"a.py": b"", "b.py": b""})
    write_zip(tmp_path / "a.zip", tree, files_of(tree), lambda *progress: told.append(progress))
    assert told == [("zip", 1, 2), ("zip", 2, 2)]


# --- identical bytes ---


def other_times(tree: Path) -> None:
    for day, path in enumerate(tree.rglob("*")):
        os.utime(path, (86_400 * day, 86_400 * day))


def other_modes(tree: Path) -> None:
    for file in files_of(tree):
        file.chmod(0o700)


def other_folder_times(tree: Path) -> None:
    shutil.move(tree / "pkg", tree / "aside")
    shutil.move(tree / "aside", tree / "pkg")


@pytest.mark.parametrize("change", [other_times, other_modes, other_folder_times])
def test_file_times_and_modes_do_not_change_the_zip(change: Callable[[Path], None], tmp_path: Path) -> None:
    tree = tree_of(tmp_path / "tree")
    first = sha256(zip_of(tree, tmp_path / "first.zip"))
    change(tree)
    assert sha256(zip_of(tree, tmp_path / "second.zip")) == first


def test_folder_umask_and_order_do_not_change_the_zip(tmp_path: Path) -> None:
    first = zip_of(tree_of(tmp_path / "tree"), tmp_path / "first.zip")
    os.umask(0o077)
    elsewhere = tree_of(tmp_path / "a" / "deeper" / "place", dict(reversed(FILES.items())))
    assert sha256(zip_of(elsewhere, tmp_path / "second.zip")) == sha256(first)


def test_different_content_changes_the_zip(tmp_path: Path) -> None:
    first = zip_of(tree_of(tmp_path / "tree"), tmp_path / "first.zip")
    other = tree_of(tmp_path / "other", {**FILES, "pkg.py": b" "})
    assert sha256(zip_of(other, tmp_path / "second.zip")) != sha256(first)


# --- unpacking ---


@pytest.mark.parametrize(
    ("packed", "expected"),
    [(0o644, 0o444), (0o755, 0o555), (0o600, 0o000), (0o640, 0o000), (0o750, 0o000), (0o604, 0o444), (0o666, 0o666)],
    ids=oct,
)
def test_everyone_gets_the_rights_that_a_mode_gives_others(packed: int, expected: int, tmp_path: Path) -> None:
    entry = zipfile.ZipInfo("pkg/code.py")
    entry.create_system, entry.external_attr = 3, (stat.S_IFREG | packed) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(entry, b"x = 1")
    unpack(tmp_path / "a.zip", tmp_path / "out")
    assert oct(stat.S_IMODE((tmp_path / "out/pkg/code.py").stat().st_mode)) == oct(expected)


def test_unpacking_restores_what_was_packed(tmp_path: Path) -> None:
    unpack(zip_of(tree_of(tmp_path / "tree"), tmp_path / "a.zip"), tmp_path / "out")
    out = {file.relative_to(tmp_path / "out"): file.read_bytes() for file in files_of(tmp_path / "out")}
    assert out == {Path(name): content for name, content in FILES.items()}


@pytest.mark.parametrize("part", [0.0, 0.5, 0.99])
def test_a_truncated_zip_is_named(part: float, tmp_path: Path) -> None:
    whole = zip_of(tree_of(tmp_path / "tree"), tmp_path / "whole.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(BrokenLayerError, match=r"a\.zip is not a complete zip: .*build it again"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_a_zip_with_a_wrong_checksum_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("pkg.py", "an answer = 42")
    damaged = (tmp_path / "a.zip").read_bytes().replace(b"an answer = 42", b"an answer = 43")
    (tmp_path / "a.zip").write_bytes(damaged)
    with pytest.raises(BrokenLayerError, match=r"a\.zip is not a complete zip: "):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_a_zip_with_damaged_data_is_named(tmp_path: Path) -> None:
    zipped = zip_of(tree_of(tmp_path / "tree", {"a.py": b"x = 1\n" * 500}), tmp_path / "a.zip")
    begin = zipped.read_bytes().index(b"a.py") + len(b"a.py")
    with zipped.open("r+b") as file:
        file.seek(begin)
        file.write(b"\xff" * 8)
    with pytest.raises(BrokenLayerError, match=r"a\.zip is not a complete zip: "):
        unpack(zipped, tmp_path / "out")


def test_an_unusable_folder_is_not_blamed_on_the_zip(tmp_path: Path) -> None:
    zipped = zip_of(tree_of(tmp_path / "tree"), tmp_path / "a.zip")
    (tmp_path / "out").write_text("a file where a folder should be")
    with pytest.raises(LayerError, match=r"a\.zip cannot be unpacked: ") as caught:
        unpack(zipped, tmp_path / "out")
    assert not isinstance(caught.value, BrokenLayerError)


# --- a file that is complete or absent ---


def test_the_new_file_replaces_the_older_one(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_text("older")
    with replace_file(path) as part:
        part.write_text("newer")
    assert path.read_text() == "newer"


def test_the_folder_need_not_exist(tmp_path: Path) -> None:
    with replace_file(tmp_path / "some" / "folder" / "a.zip") as part:
        part.write_text("newer")
    assert (tmp_path / "some/folder/a.zip").read_text() == "newer"


def test_nothing_is_left_beside_the_new_file(tmp_path: Path) -> None:
    with replace_file(tmp_path / "a.zip") as part:
        part.write_text("newer")
    assert list(tmp_path.iterdir()) == [tmp_path / "a.zip"]


FAULTS = [RuntimeError("a fault"), LayerError("too large"), OSError(errno.EIO, "I/O error"), KeyboardInterrupt()]


def half_write(path: Path, fault: BaseException) -> None:
    with replace_file(path) as part:
        part.write_text("half")
        raise fault


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_a_fault_while_writing_leaves_no_file(fault: BaseException, tmp_path: Path) -> None:
    with pytest.raises((type(fault), LayerError)):
        half_write(tmp_path / "a.zip", fault)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_a_fault_while_writing_leaves_the_older_file_intact(fault: BaseException, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_text("older")
    with pytest.raises((type(fault), LayerError)):
        half_write(path, fault)
    assert path.read_text() == "older"


def test_the_file_is_not_replaced_before_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_text("older")
    with replace_file(path) as part:
        part.write_text("half")
        assert path.read_text() == "older"


def test_other_exceptions_are_passed_on_unchanged(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        half_write(tmp_path / "a.zip", ZeroDivisionError())


def test_an_unwritable_file_is_named_with_its_folder(tmp_path: Path) -> None:
    (tmp_path / "dist" / "a.zip").mkdir(parents=True)
    with (
        pytest.raises(LayerError, match=r"a\.zip cannot be written: Is a directory; check the permissions of dist/"),
        replace_file(tmp_path / "dist" / "a.zip") as part,
    ):
        part.write_text("newer")


full_disk = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")


def write_to_a_full_disk(path: Path, tree: Path) -> None:
    path.with_name(f"{path.name}.{os.getpid()}.part").symlink_to("/dev/full")
    with replace_file(path) as part:
        write_zip(part, tree, files_of(tree))


@full_disk
def test_a_full_disk_is_reported_with_free_and_needed_space(tmp_path: Path) -> None:
    words = r"a\.zip cannot be written: No space left on device; [\d,]+ MB are free, but a build needs about 800 MB"
    with pytest.raises(LayerError, match=words):
        write_to_a_full_disk(tmp_path / "a.zip", tree_of(tmp_path / "tree"))


@full_disk
def test_a_disk_that_fills_up_while_writing_leaves_no_file(tmp_path: Path) -> None:
    tree = tree_of(tmp_path / "tree", {"a.py": b"", "big.gz": os.urandom(200_000)})
    (tmp_path / "dist").mkdir()
    with pytest.raises(LayerError):
        write_to_a_full_disk(tmp_path / "dist" / "a.zip", tree)
    assert list((tmp_path / "dist").iterdir()) == []


# --- the function's zip ---


@pytest.fixture
def function(tmp_path: Path) -> Path:
    return tree_of(tmp_path / "function", {"lambda_function.py": b"x = 1", "trader/__init__.py": b""})


def pack(folder: Path, zip_file: Path) -> set[str]:
    return {entry.filename for entry in entries(package(folder, zip_file, rules=folder / "no rules"))}


def with_bytecode(*sources: str) -> set[str]:
    return {*sources, *(cache_from_source(source) for source in sources)}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package(FUNCTION, tmp_path_factory.mktemp("package") / "function.zip")


@pytest.mark.parametrize(
    "name", ["lambda_function.py", "trader/data/sample_prices.csv.gz", "trader/data/constituents.csv"]
)
def test_the_function_has_its_handler_and_its_data(name: str, real: Path) -> None:
    assert name in {entry.filename for entry in entries(real)}


def test_the_function_has_all_modules_of_the_trader_the_rules_that_ship_and_nothing_else(real: Path) -> None:
    compiled = "trader/forecasting/map/compiled"
    data = {
        *("trader/data/sample_prices.csv.gz", "trader/data/constituents.csv"),
        *(f"{compiled}/{name}" for name in ("libraries.sha256", "linux-aarch64.so", "linux-x86_64.so")),
    }
    modules = [path.relative_to(FUNCTION).as_posix() for path in (FUNCTION / "trader").rglob("*.py")]
    rules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "rules").glob("*.py")}
    code = with_bytecode("lambda_function.py", *modules)
    assert {entry.filename for entry in entries(real)} == {*code, *data, *rules}


def test_the_function_brings_the_own_rules_along_in_their_folder(tmp_path: Path) -> None:
    (tmp_path / "rules/notes").mkdir(parents=True)
    for name in ("rules/mine.py", "rules/indicators.py", "rules/notes.txt", "rules/notes/old.py"):
        (tmp_path / name).write_text("")
    zipped = package(zip_file=tmp_path / "function.zip", rules=tmp_path / "rules")
    names = {entry.filename for entry in entries(zipped)}
    assert {name for name in names if name.startswith("rules/")} == {"rules/mine.py", "rules/indicators.py"}
    assert "lambda_function.py" in names


def test_the_function_is_smaller_than_two_megabytes(real: Path) -> None:
    assert real.stat().st_size < 2_000_000


def test_packing_the_function_twice_gives_identical_bytes(real: Path, tmp_path: Path) -> None:
    os.umask(0o077)
    copy = tmp_path / "elsewhere"
    for file in reversed(contents()):
        (copy / file.relative_to(FUNCTION)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy / file.relative_to(FUNCTION))
    assert sha256(package(copy, tmp_path / "function.zip")) == sha256(real)


@pytest.mark.parametrize(
    "left_over",
    [
        "tests/test_run.py",
        "trader/tests/prices.csv",
        "trader/__pycache__/alpha.cpython-313.pyc",
        "trader/__pycache__/alpha.py",
        "__pycache__/lambda_function.cpython-313.pyc",
        ".env",
        ".venv/lib/site.py",
        "trader/.alpha.py",
        "trader/.cache/prices.csv",
        ".mypy_cache/3.13/cache.csv",
        "trader/alpha.py~",
        "trader/alpha.py.orig",
        "trader/py.typed",
        "notes.md",
        "out/run.html",
    ],
)
def test_leftovers_of_python_editors_and_tests_are_not_packed(left_over: str, function: Path, tmp_path: Path) -> None:
    tree_of(function, {left_over: b"x"})
    assert pack(function, tmp_path / "function.zip") == with_bytecode("lambda_function.py", "trader/__init__.py")


def test_a_hidden_folder_above_the_function_hides_nothing(tmp_path: Path) -> None:
    function = tree_of(tmp_path / ".work" / "tests" / "function", {"lambda_function.py": b"x = 1"})
    assert pack(function, tmp_path / "function.zip") == with_bytecode("lambda_function.py")


WITHOUT_COMPILER = """
import sys
from importlib.machinery import SourceFileLoader
def refuse(*_, **__): raise AssertionError("compiled again")
SourceFileLoader.source_to_code = refuse
sys.path.insert(0, sys.argv[1])
import lambda_function
print(lambda_function.VERSION)
"""


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """A function of version 1 as Lambda unpacks its zip; beside its source were leftovers that are no bytecode."""
    left_over = {"__pycache__/lambda_function.cpython-313.pyc": b"x"}
    function = tree_of(tmp_path / "function", {"lambda_function.py": b"VERSION = 1", **left_over})
    unpack(package(function, tmp_path / "function.zip", rules=tmp_path), tmp_path / "task")
    return tmp_path / "task"


def load(task: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-I", "-B", "-c", WITHOUT_COMPILER, str(task)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_the_function_is_not_compiled_again_when_it_starts(unpacked: Path) -> None:
    assert load(unpacked).stdout == "1\n"


def test_a_source_that_was_edited_later_is_not_hidden_by_its_bytecode(unpacked: Path) -> None:
    (unpacked / "lambda_function.py").chmod(0o600)
    (unpacked / "lambda_function.py").write_text("VERSION = 2")
    assert "compiled again" in load(unpacked).stderr


def test_a_source_that_cannot_be_compiled_is_named(function: Path, tmp_path: Path) -> None:
    tree_of(function, {"trader/broken.py": b"x ="})
    with pytest.raises(LayerError, match=r"trader/broken\.py"):
        package(function, tmp_path / "function.zip")


@pytest.fixture
def large(function: Path) -> Path:
    return tree_of(function, {"trader/prices.csv.gz": os.urandom(1_900_000), "trader/more.csv.gz": os.urandom(200_000)})


def test_a_function_that_is_too_large_names_its_biggest_file(large: Path, tmp_path: Path) -> None:
    words = r"function\.zip would be 2,1\d\d,\d\d\d bytes, but 2,000,000 are allowed; .* is trader/prices\.csv\.gz"
    with pytest.raises(LayerError, match=words):
        package(large, tmp_path / "function.zip")


def test_a_function_that_is_too_large_is_not_written(large: Path, tmp_path: Path) -> None:
    with pytest.raises(LayerError):
        package(large, tmp_path / "dist" / "function.zip")
    assert list((tmp_path / "dist").iterdir()) == []


def test_a_function_that_is_too_large_leaves_the_older_zip(large: Path, tmp_path: Path) -> None:
    zip_file = tmp_path / "function.zip"
    zip_file.write_text("older")
    with pytest.raises(LayerError):
        package(large, zip_file)
    assert zip_file.read_text() == "older"


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "dist").write_text("")
    with pytest.raises(LayerError, match=r"a\.zip cannot be written"), replace_file(tmp_path / "dist" / "a.zip"):
        pass
