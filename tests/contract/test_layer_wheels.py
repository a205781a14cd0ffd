"""The real uv against a package index on loopback, with wheels of a few bytes."""

import contextlib
import hashlib
import os
import socket
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from time import sleep
from typing import Any

import pytest

from scripts.layer import wheels
from scripts.layer.target import LayerError, Target
from scripts.layer.wheels import ensure_installed, install

TARGET = Target("3.13", "x86_64")
NO_WHEEL = "a package has no wheel for this target"
UNREACHABLE = "the package index cannot be reached and uv's cache is incomplete"
DAMAGED = "a download is not the locked file"


class Handler(SimpleHTTPRequestHandler):
    """A handler that lists and serves a folder, which is all that a package index has to do."""

    def __init__(self, *arguments: Any, asked: Counter[str], **options: Any) -> None:
        self.asked = asked
        super().__init__(*arguments, **options)

    def do_GET(self) -> None:
        self.asked[self.path] += 1
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the base class calls it that
        """Log nothing."""


@dataclass
class Index:
    """A package index: one folder per package, with its files."""

    folder: Path
    asked: Counter[str] = field(default_factory=Counter)

    def add(self, tag: str = "py3-none-any", *, version: str = "1.0", needs: str = "") -> str:
        """Add a wheel of `thing`, whose only module contains the wheel's tag; return its hash."""
        info = f"thing-{version}.dist-info"
        metadata = f"Metadata-Version: 2.1\nName: thing\nVersion: {version}\n"
        files = {
            "thing.py": f"TAG = {tag!r}\n",
            f"{info}/METADATA": metadata + (f"Requires-Dist: {needs}\n" if needs else ""),
            f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: {tag}\n",
        }
        files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
        wheel = self.path(f"thing-{version}-{tag}.whl")
        with zipfile.ZipFile(wheel, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return hashlib.sha256(wheel.read_bytes()).hexdigest()

    def path(self, name: str) -> Path:
        """Return the path of a file of `thing`."""
        (self.folder / "thing").mkdir(exist_ok=True)
        return self.folder / "thing" / name

    @contextlib.contextmanager
    def serve(self) -> Iterator[str]:
        """Serve the index on loopback, and yield its address."""
        handler = partial(Handler, asked=self.asked, directory=str(self.folder))
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            thread = Thread(target=partial(server.serve_forever, poll_interval=0.01))
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_port}"
            finally:
                server.shutdown()
                thread.join()


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder not named after the test: its name appears in uv's output, which is searched for causes."""
    return tmp_path_factory.mktemp("place")


@pytest.fixture
def index(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """Serve an empty index to uv, with an empty cache and without the shell's settings for uv."""
    for name in [name for name in os.environ if name.startswith(("UV_", "PIP_", "VIRTUAL_ENV"))]:
        monkeypatch.delenv(name)
    (place / "index").mkdir()
    index = Index(place / "index")
    with index.serve() as address:
        monkeypatch.setenv("UV_DEFAULT_INDEX", address)
        monkeypatch.setenv("UV_CACHE_DIR", str(place / "cache"))
        monkeypatch.setenv("UV_PYTHON", sys.executable)
        monkeypatch.setenv("UV_HTTP_RETRIES", "0")
        yield index


@pytest.fixture
def unreachable(index: Index, monkeypatch: pytest.MonkeyPatch) -> Index:
    """Return the index, with uv directed to an address where nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://127.0.0.1:{free.getsockname()[1]}")
    return index


def requirements(place: Path, *hashes: str, version: str = "1.0") -> Path:
    file = place / "requirements.txt"
    file.write_text(f"thing=={version} {' '.join(f'--hash=sha256:{each}' for each in hashes)}\n")
    return file


def tag(folder: Path) -> str:
    """Return the tag of the wheel installed in a folder."""
    return (folder / "thing.py").read_text().split("'")[1]


def fault(place: Path, *hashes: str, target: Target = TARGET) -> str:
    with pytest.raises(LayerError) as caught:
        install(target, place / "plain", requirements(place, *hashes))
    return str(caught.value)


# --- wheels that can be installed ---


def test_a_locked_wheel_is_unpacked(index: Index, place: Path) -> None:
    install(TARGET, place / "plain", requirements(place, index.add()))
    assert (place / "plain" / "thing.py").read_text() == "TAG = 'py3-none-any'\n"


def test_a_package_keeps_its_metadata(index: Index, place: Path) -> None:
    install(TARGET, place / "plain", requirements(place, index.add()))
    assert "Name: thing" in (place / "plain/thing-1.0.dist-info/METADATA").read_text()


@pytest.mark.parametrize("python", ["3.13", "3.14"])
@pytest.mark.parametrize(("arch", "machine"), [("x86_64", "x86_64"), ("arm64", "aarch64")])
def test_the_wheel_is_the_targets(python: str, arch: str, machine: str, index: Index, place: Path) -> None:
    short = python.replace(".", "")
    tags = [f"cp{each}-cp{each}-manylinux_2_17_{of}" for each in (313, 314) for of in ("x86_64", "aarch64")]
    locked = requirements(place, *(index.add(each) for each in tags))
    install(Target(python, arch), place / "plain", locked)
    assert tag(place / "plain") == f"cp{short}-cp{short}-manylinux_2_17_{machine}"


def test_a_wheel_for_amazon_linux_2023s_glibc_is_accepted(index: Index, place: Path) -> None:
    hashes = [index.add(f"cp313-cp313-manylinux_2_{glibc}_x86_64") for glibc in (17, 34, 35)]
    install(TARGET, place / "plain", requirements(place, *hashes))
    assert tag(place / "plain") == "cp313-cp313-manylinux_2_34_x86_64"


def test_dependencies_are_not_resolved_again(index: Index, place: Path) -> None:
    install(TARGET, place / "plain", requirements(place, index.add(needs="nobody-has-this>=2")))
    assert tag(place / "plain") == "py3-none-any"


def test_changing_an_installed_file_leaves_the_cache_unchanged(
    index: Index, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_LINK_MODE", "hardlink")
    locked = requirements(place, index.add())
    install(TARGET, place / "plain", locked)
    with (place / "plain" / "thing.py").open("r+") as file:
        file.write("STRIPPED")
    install(TARGET, place / "again", locked)
    assert tag(place / "again") == "py3-none-any"


def test_uvs_settings_for_other_projects_are_ignored(
    index: Index, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "uv.toml").write_text("no-index = true\n")
    monkeypatch.chdir(place)
    install(TARGET, place / "plain", requirements(place, index.add()))
    assert tag(place / "plain") == "py3-none-any"


def test_a_cached_wheel_needs_no_network(index: Index, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = requirements(place, index.add())
    install(TARGET, place / "plain", locked)
    index.asked.clear()
    monkeypatch.setenv("UV_OFFLINE", "1")
    install(TARGET, place / "again", locked)
    assert (tag(place / "again"), index.asked.total()) == ("py3-none-any", 0)


# --- wheels that cannot be installed ---


def test_a_download_with_another_hash_is_reported_with_that_hash(index: Index, place: Path) -> None:
    hash_now = index.add()
    told = fault(place, "0" * 64)
    assert DAMAGED in told
    assert hash_now in told


def test_a_download_with_another_hash_is_not_installed(index: Index, place: Path) -> None:
    index.add()
    fault(place, "0" * 64)
    assert not (place / "plain" / "thing.py").exists()


def test_a_requirement_without_a_hash_is_refused(index: Index, place: Path) -> None:
    index.add()
    assert "hash" in fault(place).partition("uv says\n")[2]


@pytest.mark.parametrize(
    "wheel",
    [
        "cp313-cp313-macosx_11_0_arm64",
        "cp313-cp313-win_amd64",
        "cp313-cp313-musllinux_1_2_x86_64",
        "cp313-cp313-manylinux_2_17_aarch64",
        "cp313-cp313-manylinux_2_35_x86_64",
        "cp312-cp312-manylinux_2_17_x86_64",
        "cp314-cp314-manylinux_2_17_x86_64",
        "cp314-abi3-manylinux_2_17_x86_64",
    ],
)
def test_wheels_for_other_targets_do_not_count(wheel: str, index: Index, place: Path) -> None:
    assert NO_WHEEL in fault(place, index.add(wheel))


def test_a_source_distribution_does_not_count_as_a_wheel(index: Index, place: Path) -> None:
    index.path("thing-1.0.tar.gz").write_bytes(b"sources")
    assert NO_WHEEL in fault(place, hashlib.sha256(b"sources").hexdigest())


def test_a_target_without_a_wheel_is_named(index: Index, place: Path) -> None:
    wheel = index.add("cp313-cp313-manylinux_2_17_x86_64")
    told = fault(place, wheel, target=Target("3.13", "arm64"))
    assert told.startswith("the wheels for prophet-layer-python3.13-arm64 could not be installed: ")


def test_an_unreachable_index_is_reported_with_the_cache(unreachable: Index, place: Path) -> None:
    assert UNREACHABLE in fault(place, unreachable.add())


def test_an_empty_cache_without_a_network_is_reported(
    index: Index, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    assert UNREACHABLE in fault(place, index.add())


@pytest.mark.usefixtures("index")
def test_an_unknown_fault_is_reported_in_uvs_words(place: Path) -> None:
    with pytest.raises(LayerError, match=r"(?s)could not be installed: uv says\n.*nowhere\.txt"):
        install(TARGET, place / "plain", place / "nowhere.txt")


def test_a_full_disk_is_reported_with_the_space_needed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = place / "uv"
    full.write_text("#!/bin/sh\necho 'error: failed to write: No space left on device (os error 28)' >&2\nexit 2\n")
    full.chmod(0o755)
    monkeypatch.setattr("uv.find_uv_bin", lambda: str(full))
    assert "the disk is full; a build needs about 800 MB" in fault(place, "0" * 64)


# --- reusing a folder ---


def interrupt(target: Target, folder: Path, requirements: Path) -> None:
    """Interrupt an installation halfway, as Ctrl-C does."""
    folder.mkdir()
    (folder / "half.py").write_text("")
    raise KeyboardInterrupt


def mark(folder: Path) -> Path:
    """Put a file into a folder that another installation would remove."""
    (folder / "mark").write_text("")
    return folder


def test_a_folder_that_has_the_wheels_is_left_alone(index: Index, place: Path) -> None:
    locked = requirements(place, index.add())
    mark(ensure_installed(TARGET, place / "plain", locked))
    assert (ensure_installed(TARGET, place / "plain", locked) / "mark").exists()


def test_changed_requirements_are_installed_again(index: Index, place: Path) -> None:
    first, second = index.add(), index.add(version="2.0")
    mark(ensure_installed(TARGET, place / "plain", requirements(place, first)))
    ensure_installed(TARGET, place / "plain", requirements(place, second, version="2.0"))
    names = {path.name for path in (place / "plain").iterdir() if not path.name.startswith(".")}
    assert names == {"thing.py", "thing-2.0.dist-info"}


def test_another_target_is_installed_again(index: Index, place: Path) -> None:
    tags = [f"cp313-cp313-manylinux_2_17_{machine}" for machine in ("x86_64", "aarch64")]
    locked = requirements(place, *map(index.add, tags))
    ensure_installed(Target("3.13", "x86_64"), place / "plain", locked)
    assert tag(ensure_installed(Target("3.13", "arm64"), place / "plain", locked)) == tags[1]


def test_an_interrupted_installation_is_repeated(index: Index, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = requirements(place, index.add())
    with monkeypatch.context() as patched:
        patched.setattr(wheels, "install", interrupt)
        with pytest.raises(KeyboardInterrupt):
            ensure_installed(TARGET, place / "plain", locked)
    names = {path.name for path in ensure_installed(TARGET, place / "plain", locked).iterdir() if path.suffix}
    assert names == {"thing.py", "thing-1.0.dist-info"}


def test_an_interrupted_change_is_not_taken_for_the_old_state(
    index: Index, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = index.add()
    ensure_installed(TARGET, place / "plain", requirements(place, wheel))
    with monkeypatch.context() as patched:
        patched.setattr(wheels, "install", interrupt)
        with pytest.raises(KeyboardInterrupt):
            ensure_installed(TARGET, place / "plain", requirements(place, wheel, version="2.0"))
    assert tag(ensure_installed(TARGET, place / "plain", requirements(place, wheel))) == "py3-none-any"


def test_simultaneous_installations_of_a_folder_happen_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def slow(target: Target, folder: Path, requirements: Path) -> None:
        calls.append(folder)
        sleep(0.1)
        folder.mkdir()

    monkeypatch.setattr(wheels, "install", slow)
    locked = requirements(place)
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(ensure_installed, TARGET, place / "plain", locked) for _ in range(2)]:
            done.result(timeout=10)
    assert len(calls) == 1


def test_a_deleted_folder_is_made_again(index: Index, place: Path) -> None:
    locked = requirements(place, index.add())
    ensure_installed(TARGET, place / "plain", locked).rename(place / "aside")
    assert tag(ensure_installed(TARGET, place / "plain", locked)) == "py3-none-any"


@pytest.mark.parametrize("name", ["UV_COMPILE_BYTECODE", "UV_NO_BINARY", "UV_EXCLUDE"])
def test_uvs_environment_variables_do_not_change_the_result(
    name: str, index: Index, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "thing" if name != "UV_COMPILE_BYTECODE" else "1")
    install(TARGET, place / "plain", requirements(place, index.add()))
    assert {file.name for file in (place / "plain").rglob("thing*.py*")} == {"thing.py"}


def test_a_full_disk_is_recognized_in_wrapped_lines(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = place / "uv"
    full.write_text("#!/bin/sh\nprintf 'error: No space\\n    left on device (os error 28)\\n' >&2\nexit 2\n")
    full.chmod(0o755)
    monkeypatch.setattr("uv.find_uv_bin", lambda: str(full))
    (place / "requirements.txt").write_text("")
    with pytest.raises(LayerError, match="the disk is full"):
        install(TARGET, place / "plain", place / "requirements.txt")
