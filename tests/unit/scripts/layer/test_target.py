import contextlib
import importlib.util
import marshal
import os
import py_compile
import shutil
import stat
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from types import CodeType

import pytest

from scripts import ROOT
from scripts.layer import bytecode, elf, verify
from scripts.layer.target import DIST, BrokenLayerError, LayerError, Target, shorten_path
from trader.settings import SettingsError

X86_64, ARM64 = Target("3.13", "x86_64"), Target("3.13", "arm64")
HERE = X86_64 if os.uname().machine == "x86_64" else ARM64
linux = pytest.mark.skipif(sys.platform != "linux", reason="the layer's files are ELF, which only Linux runs")


# --- a layer's target ---


@pytest.mark.parametrize("env", [{}, {"PYTHON": "", "ARCH": ""}, {"HOME": "/root"}])
def test_by_default_the_layer_is_for_python_3_13_on_x86_64(env: dict[str, str]) -> None:
    assert Target.from_env(env) == Target(python="3.13", arch="x86_64")


@pytest.mark.parametrize("python", ["3.13", "3.14"])
@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
def test_each_runtime_has_a_layer_named_after_it(python: str, arch: str) -> None:
    target = Target.from_env({"PYTHON": python, "ARCH": arch})
    assert target.zip == DIST / f"prophet-layer-python{python}-{arch}.zip"


@pytest.mark.parametrize("arch", ["sparc", "aarch64", "X86_64", "x86_64 "])
def test_an_unknown_architecture_is_named_with_those_on_offer(arch: str) -> None:
    with pytest.raises(SettingsError, match=rf"ARCH={arch}: must be one of x86_64, arm64$"):
        Target.from_env({"ARCH": arch})


@pytest.mark.parametrize("python", ["3.12", "3", "3.13.1", "python3.13"])
def test_an_unknown_python_is_named_with_those_on_offer(python: str) -> None:
    with pytest.raises(SettingsError, match=rf"PYTHON={python}: must be one of 3\.13, 3\.14$"):
        Target.from_env({"PYTHON": python})


@pytest.mark.parametrize(
    ("path", "expected"), [(ROOT / "layer" / "dist" / "a.zip", "layer/dist/a.zip"), (Path("/opt/a.zip"), "/opt/a.zip")]
)
def test_a_path_in_the_repository_is_shown_relative_to_its_root(path: Path, expected: str) -> None:
    assert shorten_path(path) == expected


def test_wheels_are_chosen_for_the_glibc_of_amazon_linux_2023() -> None:
    assert (X86_64.platform, ARM64.platform) == ("x86_64-manylinux_2_34", "aarch64-manylinux_2_34")


@pytest.mark.parametrize(
    ("system", "machine", "expected"),
    [
        ("linux", "x86_64", [X86_64]),
        ("linux", "aarch64", [ARM64]),
        ("linux", "riscv64", []),
        ("darwin", "arm64", []),
        ("darwin", "x86_64", []),
    ],
)
def test_a_layer_runs_on_linux_of_its_own_architecture(
    system: str, machine: str, expected: list[Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert [target for target in (X86_64, ARM64) if target.runs_here] == expected


def uv_that(answers: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace uv with a one-line script."""
    script = folder / "uv"
    script.write_text(f"#!/bin/sh\n{answers}\n")
    script.chmod(0o755)
    monkeypatch.setattr("uv.find_uv_bin", lambda: str(script))


def other_python() -> str:
    return next(version for version in ("3.13", "3.14") if version != f"3.{sys.version_info.minor}")


def test_this_versions_interpreter_is_outside_any_environment() -> None:
    python = Target(f"3.{sys.version_info.minor}", "x86_64").interpreter()
    code = "import sys; print(sys.version_info.minor, sys.prefix == sys.base_prefix)"
    told = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.split() == [str(sys.version_info.minor), "True"]


def test_another_versions_interpreter_is_found_by_uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uv_that("for last; do :; done; echo /some/where/$last", tmp_path, monkeypatch)
    assert Target(other_python(), "x86_64").interpreter() == Path(f"/some/where/{other_python()}")


def test_without_an_interpreter_the_error_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uv_that("echo nothing found >&2; exit 2", tmp_path, monkeypatch)
    with pytest.raises(LayerError, match=rf"{other_python()} needs .*: \.venv/bin/uv python install {other_python()}$"):
        Target(other_python(), "x86_64").interpreter()


# --- compiled files ---


MACHINES = {"x86_64": 62, "aarch64": 183, "i386": 3, "arm": 40}
"""Values of e_machine in the header of an ELF file."""


def elf_header(machine: str) -> bytes:
    """Return an empty shared library, 64-bit and little-endian."""
    identity = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    return identity + struct.pack("<HHIQQQIHHHHHH", 3, MACHINES[machine], 1, 0, 0, 0, 0, 64, 56, 0, 64, 0, 0)


def file_of(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("target", [X86_64, ARM64])
def test_a_library_for_the_targets_machine_passes(target: Target, tmp_path: Path) -> None:
    elf.check_machine([file_of(tmp_path / "lib.so", elf_header(target.machine))], target)


@pytest.mark.parametrize(
    ("target", "machine", "told"),
    [
        (X86_64, "aarch64", "EM_AARCH64"),
        (X86_64, "i386", "EM_386"),
        (ARM64, "x86_64", "EM_X86_64"),
        (ARM64, "arm", "EM_ARM"),
    ],
)
def test_a_library_for_another_machine_is_named(target: Target, machine: str, told: str, tmp_path: Path) -> None:
    paths = [file_of(tmp_path / "good.so", elf_header(target.machine))]
    paths += [file_of(tmp_path / "_core.so", elf_header(machine))]
    with pytest.raises(LayerError, match=rf"^_core\.so is compiled for {told}, not for {target.arch}$"):
        elf.check_machine(paths, target)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("model.bin", True), ("tool", True), ("lib.so", False), ("libtbb.so.2", False), ("_core.cpython-313.so", False)],
)
def test_a_program_is_a_compiled_file_that_is_not_a_library(name: str, expected: bool, tmp_path: Path) -> None:
    assert elf.is_program(file_of(tmp_path / name, elf_header("x86_64"))) is expected


@pytest.mark.parametrize("content", [b"#!/bin/sh\n", b"", b"\x7fEL"])
def test_a_file_that_is_not_compiled_is_not_a_program(content: bytes, tmp_path: Path) -> None:
    assert not elf.is_program(file_of(tmp_path / "tool", content))


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Copy a compiled module as its authors ship it, with symbols; return the copy."""
    spec = importlib.util.find_spec("websockets.speedups")
    assert spec
    assert spec.origin
    return Path(shutil.copy(spec.origin, tmp_path))


def apply_mask(library: Path) -> str:
    """Call a function of the library in a separate Python process and return what it prints."""
    code = (
        "import importlib.util, sys; spec = importlib.util.spec_from_file_location('speedups', sys.argv[1]); "
        "module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module); "
        "print(module.apply_mask(b'abcd', bytes(4)))"
    )
    command = [sys.executable, "-I", "-c", code, str(library)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def spoil(library: Path) -> bytes:
    """Return the library with the offset of its last loaded segment changed, so that it no longer fits its address."""
    content = bytearray(library.read_bytes())
    (start,) = struct.unpack_from("<Q", content, 32)
    size, count = struct.unpack_from("<HH", content, 54)
    last = max(at for at in range(start, start + size * count, size) if content[at : at + 4] == b"\1\0\0\0")
    content[last + 8] ^= 8
    return bytes(content)


def tools(folder: Path, monkeypatch: pytest.MonkeyPatch, **scripts: str) -> None:
    """Make these one-line scripts the only programs on the PATH; each is called with `--strip-unneeded -o OUT FILE`."""
    folder.mkdir()
    for name, line in scripts.items():
        file_of(folder / name.replace("_", "-"), f"#!/bin/sh\n{line}\n".encode()).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


COPIES, FAILS = '/bin/cp "$4" "$3"', "echo unable to recognise the format >&2; exit 1"


@linux
def test_a_stripped_library_is_smaller_and_works(library: Path) -> None:
    before = library.stat().st_size
    assert elf.strip("strip", [library]) == []
    assert library.stat().st_size < before
    assert apply_mask(library) == "b'abcd'"


@linux
def test_the_strip_tool_found_is_installed(library: Path) -> None:
    tool = elf.strip_tool(HERE, library)
    assert tool
    assert shutil.which(tool)


@linux
def test_looking_for_a_tool_leaves_the_probed_file_unchanged(library: Path) -> None:
    before = library.read_bytes()
    elf.strip_tool(HERE, library)
    assert library.read_bytes() == before


@pytest.mark.parametrize("content", [b"not a library", elf_header("x86_64")[:20]], ids=["text", "half a header"])
def test_no_tool_is_chosen_if_none_can_read_the_file(content: bytes, tmp_path: Path) -> None:
    assert elf.strip_tool(HERE, file_of(tmp_path / "lib.so", content)) is None


def test_no_tool_is_chosen_if_none_is_installed(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools(tmp_path / "bin", monkeypatch)
    assert elf.strip_tool(HERE, library) is None


def test_a_tool_for_the_targets_machine_is_preferred(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools(tmp_path / "bin", monkeypatch, strip=COPIES, llvm_strip=COPIES, aarch64_linux_gnu_strip=COPIES)
    assert elf.strip_tool(ARM64, library) == "aarch64-linux-gnu-strip"


def test_a_tool_that_cannot_read_the_file_is_passed_over(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools(tmp_path / "bin", monkeypatch, strip=FAILS, llvm_strip=COPIES)
    assert elf.strip_tool(ARM64, library) == "llvm-strip"


def test_a_tool_that_spoils_the_files_is_passed_over(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = file_of(tmp_path / "bad.so", spoil(library))
    tools(tmp_path / "bin", monkeypatch, strip=f'/bin/cp "{bad}" "$3"', llvm_strip=COPIES)
    assert elf.strip_tool(HERE, library) == "llvm-strip"


@pytest.mark.parametrize("content", [b"not a library", b"\x7fELF, but then it is none"])
@linux
def test_a_file_that_cannot_be_stripped_is_reported_and_kept(content: bytes, library: Path, tmp_path: Path) -> None:
    other = file_of(tmp_path / "other.so", content)
    assert elf.strip("strip", [other, library]) == [other]
    assert other.read_bytes() == content


def test_a_library_that_the_tool_spoils_is_reported_and_kept(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = library.read_bytes()
    bad = file_of(tmp_path / "bad.so", spoil(library))
    tools(tmp_path / "bin", monkeypatch, strip=f'/bin/cp "{bad}" "$3"')
    assert elf.strip("strip", [library]) == [library]
    assert library.read_bytes() == before


def test_a_stripped_program_is_still_executable(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library.chmod(0o755)
    tools(tmp_path / "bin", monkeypatch, strip=COPIES)
    elf.strip("strip", [library])
    assert oct(stat.S_IMODE(library.stat().st_mode)) == oct(0o755)


# --- bytecode ---


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "python"
    (tree / "pkg" / "deep").mkdir(parents=True)
    for name in ("single", "pkg/__init__", "pkg/deep/module"):
        (tree / f"{name}.py").write_text('"""Words."""\n\n\ndef where():\n    raise RuntimeError\n')
    return tree


def compile_files(tree: Path) -> list[Path]:
    bytecode.compile_tree(Path(sys.executable), tree)
    return sorted(tree.rglob("*.pyc"))


def test_every_module_has_bytecode_where_python_looks_for_it(tree: Path) -> None:
    sources = sorted(tree.rglob("*.py"))
    assert compile_files(tree) == sorted(Path(importlib.util.cache_from_source(source)) for source in sources)


def test_python_uses_the_bytecode_without_checking_the_source(tree: Path) -> None:
    flags = {int.from_bytes(file.read_bytes()[4:8], "little") for file in compile_files(tree)}
    assert flags == {0b01}, "not an unchecked hash-based pyc (PEP 552)"


def test_existing_bytecode_is_compiled_again(tree: Path) -> None:
    py_compile.compile(str(tree / "single.py"), invalidation_mode=py_compile.PycInvalidationMode.TIMESTAMP)
    compile_files(tree)
    bytecode_file = Path(importlib.util.cache_from_source(tree / "single.py"))
    assert int.from_bytes(bytecode_file.read_bytes()[4:8], "little") == 0b01


def test_the_bytecode_does_not_say_where_it_was_made(tree: Path, tmp_path: Path) -> None:
    telling = [file.name for file in compile_files(tree) if os.fsencode(tmp_path) in file.read_bytes()]
    assert telling == []


def test_a_traceback_names_the_file_relative_to_the_layer(tree: Path) -> None:
    compile_files(tree)
    code = marshal.loads(Path(importlib.util.cache_from_source(tree / "pkg/deep/module.py")).read_bytes()[16:])
    assert isinstance(code, CodeType)
    assert code.co_filename == "python/pkg/deep/module.py"


def test_pythons_environment_variables_do_not_affect_bytecode(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONOPTIMIZE", "2")
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(tree.parent / "elsewhere"))
    assert not [file.name for file in compile_files(tree) if ".opt-" in file.name]
    assert not (tree.parent / "elsewhere").exists()


def test_a_source_that_is_not_python_is_named(tree: Path) -> None:
    (tree / "pkg" / "template.py").write_text("def {{ name }}(:\n")
    with pytest.raises(LayerError, match=r"(?s)^bytecode could not be written:\n.*pkg/template\.py.*SyntaxError"):
        compile_files(tree)


# --- the format of a layer's zip ---


def zip_of(path: Path, *names: str, mode: int = stat.S_IFREG | 0o644, content: bytes = b"x") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            entry = zipfile.ZipInfo(name)
            entry.create_system, entry.external_attr = 3, mode << 16
            archive.writestr(entry, content)
    return path


def fault(zip_file: Path) -> str:
    with pytest.raises(BrokenLayerError) as caught:
        verify.check_archive(zip_file)
    return str(caught.value)


def test_world_readable_files_below_python_pass(tmp_path: Path) -> None:
    verify.check_archive(zip_of(tmp_path / "a.zip", "python/pkg/code.py", "python/single.py", "python/a..b/c.py"))


@pytest.mark.parametrize("mode", [0, stat.S_IFDIR | 0o700, stat.S_IFDIR | 0o755], ids=oct)
def test_entries_for_folders_are_allowed(mode: int, tmp_path: Path) -> None:
    verify.check_archive(zip_of(tmp_path / "a.zip", "python/", "python/pkg/", mode=mode))


@pytest.mark.parametrize(
    "name",
    [
        "code.py",
        "Python/code.py",
        "pythons/code.py",
        "lib/python/code.py",
        "/python/code.py",
        "/etc/passwd",
        "../python/code.py",
        "python/../code.py",
        "python/pkg/../../code.py",
    ],
)
def test_a_file_outside_of_python_is_named(name: str, tmp_path: Path) -> None:
    told = fault(zip_of(tmp_path / "a.zip", "python/code.py", name))
    assert told == f"a.zip: {name} is not in python/, where Lambda looks"


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o750, 0o000, 0o711], ids=oct)
def test_a_file_that_lambdas_user_cannot_read_is_named_with_its_mode(mode: int, tmp_path: Path) -> None:
    told = fault(zip_of(tmp_path / "a.zip", "python/code.py", mode=stat.S_IFREG | mode))
    assert told == f"a.zip: python/code.py has mode {mode:o}: Lambda's user cannot read it"


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 and nothing more"])
def test_a_file_that_is_not_a_zip_is_named(content: bytes, tmp_path: Path) -> None:
    assert fault(file_of(tmp_path / "a.zip", content)).startswith("a.zip cannot be read: ")


def test_a_missing_zip_is_named(tmp_path: Path) -> None:
    assert fault(tmp_path / "a.zip").startswith("a.zip cannot be read: ")


def test_a_layer_that_is_too_large_unpacked_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(verify, "LIMIT_BYTES", 2_999)
    layer = zip_of(tmp_path / "a.zip", "python/a/x.py", "python/b.py", "python/a/y.py", content=bytes(1_000))
    assert fault(layer).startswith("the layer is 3,000 bytes unpacked, but 2,999 are allowed; ")


def test_a_layer_just_within_the_limit_passes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(verify, "LIMIT_BYTES", 3_000)
    verify.check_archive(zip_of(tmp_path / "a.zip", "python/a.py", content=bytes(3_000)))


def test_the_biggest_parts_are_named_in_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(verify, "LIMIT_BYTES", 0)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, size in {"few.py": 1, "pandas/a.so": 2, "pandas/b.so": 2, "numpy/c.so": 3, "x": 0, "y": 0}.items():
            entry = zipfile.ZipInfo(f"python/{name}")
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(entry, bytes(100_000 * size))
    parts = fault(tmp_path / "a.zip").partition("the biggest parts: ")[2]
    assert parts == "pandas 0.4 MB, numpy 0.3 MB, few.py 0.1 MB, x 0.0 MB, y 0.0 MB"


def test_the_limit_is_lambdas() -> None:
    assert verify.LIMIT_BYTES == 250 * 1024**2


# --- the unpacked files ---


@pytest.fixture
def layer_tree(tmp_path: Path) -> Path:
    """Return a layer of one module with its bytecode."""
    (tmp_path / "code.py").write_text("x = 1\n")
    bytecode.compile_tree(HERE.interpreter(), tmp_path)
    return tmp_path


HERE = Target("3.13", "x86_64")
ELSEWHERE = Target("3.13", "arm64")


def test_a_module_with_bytecode_passes(layer_tree: Path) -> None:
    verify.check_contents(HERE, layer_tree)


def test_a_module_without_bytecode_is_named(layer_tree: Path) -> None:
    (layer_tree / "slow.py").write_text("x = 1\n")
    with pytest.raises(BrokenLayerError, match=r"slow\.py has no bytecode that Python 3\.13 can load"):
        verify.check_contents(HERE, layer_tree)


def test_a_module_with_timestamp_based_bytecode_is_named(layer_tree: Path) -> None:
    py_compile.compile(str(layer_tree / "code.py"), invalidation_mode=py_compile.PycInvalidationMode.TIMESTAMP)
    with pytest.raises(BrokenLayerError, match=r"code\.py has no bytecode"):
        verify.check_contents(HERE, layer_tree)


def test_bytecode_of_another_python_does_not_count(layer_tree: Path) -> None:
    with pytest.raises(BrokenLayerError, match=r"code\.py has no bytecode that Python 3\.14 can load"):
        verify.check_contents(Target("3.14", "x86_64"), layer_tree)


@pytest.mark.parametrize("name", ["python/", "python", "."])
def test_an_entry_for_a_folder_gives_no_traceback(name: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(name, b"")
    with contextlib.suppress(LayerError):
        verify.check_archive(tmp_path / "a.zip")


def test_a_folder_outside_of_python_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("../elsewhere/", b"")
    with pytest.raises(LayerError, match=r"\.\./elsewhere/ is not in python/"):
        verify.check_archive(tmp_path / "a.zip")


def test_a_truncated_compiled_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "lib.so").write_bytes(b"\x7fELF" + bytes([2, 1, 1]))
    with pytest.raises(LayerError, match=r"lib\.so is not a complete compiled file"):
        elf.check_machine([tmp_path / "lib.so"], Target("3.13", "x86_64"))


@pytest.fixture
def umath() -> Path:
    """Return a library of NumPy that needs another library from the same wheel."""
    spec = importlib.util.find_spec("numpy._core._multiarray_umath")
    assert spec is not None
    return Path(str(spec.origin))


def list_brought_libraries(umath: Path) -> list[Path]:
    return list((umath.parents[2] / "numpy.libs").iterdir())


@linux
def test_a_library_that_neither_the_layer_nor_lambda_has_is_named(umath: Path) -> None:
    with pytest.raises(BrokenLayerError, match=r"_multiarray_umath.* needs .*blas.*, which Lambda does not have"):
        elf.check_needs([umath])


@linux
def test_a_library_that_the_layer_brings_is_found(umath: Path) -> None:
    elf.check_needs([umath, *list_brought_libraries(umath)])


@linux
def test_symbols_newer_than_lambdas_are_named(umath: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elf, "SYSTEM_VERSIONS", {"GLIBC": (2, 0)})
    with pytest.raises(BrokenLayerError, match=r"needs \S+ GLIBC_2\.[0-9.]+, which Lambda does not have"):
        elf.check_needs([umath, *list_brought_libraries(umath)])
