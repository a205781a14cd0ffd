"""AWS's runtime interface on this machine, with handlers of a few lines, and the sandbox in which it runs."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import pytest

from scripts.layer import emulator, sandbox
from scripts.layer.emulator import fetch_emulator, prepare_function
from scripts.layer.target import LayerError, Target
from scripts.testkit import lambda_runtime
from scripts.testkit.lambda_runtime import EmulatorError, Function, FunctionError, running

TARGET = Target("3.13", "x86_64")
pytestmark = pytest.mark.skipif(not TARGET.runs_here, reason="left out: the emulator runs only on Linux x86_64")

HELLO = "def handler(event, context): return 'hello'"
PIDS = """
    import os

    def handler(event, context):
        return os.getpid(), os.getppid()  # the function, and the emulator that started it
"""
BUSY = """
    import os, time

    def handler(event, context):
        time.sleep(event)
        return os.getpid()
"""

type Write = Callable[..., Function]
type Room = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def tools() -> tuple[Path, Path]:
    """Return the paths of the emulator and its tools."""
    return fetch_emulator(TARGET)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes a handler's source to a new folder; `path` takes the place of the layer."""

    def function(source: str, *path: Path) -> Function:
        task = tmp_path / f"task-{sum(1 for _ in tmp_path.iterdir())}"
        task.mkdir()
        (task / "handler.py").write_text(dedent(source))
        return prepare_function(TARGET, task, path, "handler.handler")

    return function


# --- answers ---


def test_an_event_and_its_answer_are_json(write: Write) -> None:
    with running(write("def handler(event, context): return {'got': event, 'nothing': None}"), {}) as interface:
        assert interface.invoke({"symbols": ["KO", "Zürich"]}) == {
            "got": {"symbols": ["KO", "Zürich"]},
            "nothing": None,
        }


def test_a_second_event_reuses_the_process(write: Write) -> None:
    with running(write(PIDS), {}) as interface:
        assert interface.invoke({}) == interface.invoke({})


def test_the_functions_output_is_in_the_log(write: Write) -> None:
    with running(write("def handler(event, context): print('a word by the way')"), {}) as interface:
        interface.invoke({})
        assert "a word by the way" in interface.log


def test_two_interfaces_at_once_keep_their_functions_apart(write: Write) -> None:
    here, there = (write(f"def handler(event, context): return {name!r}") for name in ("here", "there"))
    with running(here, {}) as first, running(there, {}) as second:
        assert [each.invoke({}) for each in (first, second, first)] == ["here", "there", "here"]


# --- errors ---


def test_a_handlers_error_has_its_type_message_and_place(write: Write) -> None:
    function = write("def handler(event, context): raise KeyError('AAPL')")
    with (
        running(function, {}) as interface,
        pytest.raises(FunctionError, match=rf"(?s)^KeyError: 'AAPL'\n.*{function.task}/handler.py.*line 1"),
    ):
        interface.invoke({})


def test_after_an_error_the_next_event_is_answered(write: Write) -> None:
    with running(write("def handler(event, context): return 1 / event"), {}) as interface:
        with pytest.raises(FunctionError, match="ZeroDivisionError"):
            interface.invoke(0)
        assert interface.invoke(2) == 0.5


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import nothing_such", "No module named 'nothing_such'"),
        ("raise ValueError('at init')", "ValueError: at init"),
        ("def (", "UserCodeSyntaxError"),
        ("anything = 1", "Handler 'handler' missing"),
    ],
)
def test_a_failed_import_is_an_error_that_says_why(write: Write, source: str, said: str) -> None:
    with running(write(source), {}) as interface, pytest.raises(FunctionError, match=re.escape(said)):
        interface.invoke({})


def test_a_handler_that_ends_the_process_is_an_error_with_the_exit_code(write: Write) -> None:
    with (
        running(write("import os\ndef handler(event, context): os._exit(3)"), {}) as interface,
        pytest.raises(FunctionError, match="exit status 3"),
    ):
        interface.invoke({})


@pytest.mark.parametrize("when", ["at init", "in the handler"])
def test_the_last_output_of_a_process_that_exited_is_reported(write: Write, when: str) -> None:
    end = "print('last words', flush=True)\n    os._exit(3)"
    source = f"import os\ndef handler(event, context):\n    {end}\n"
    function = write(source + ("handler({}, None)" if when == "at init" else ""))
    with running(function, {}) as interface, pytest.raises(FunctionError, match="last words"):
        interface.invoke({})


def test_a_handler_that_takes_too_long_is_an_error(write: Write) -> None:
    with running(write(BUSY), {}) as interface, pytest.raises(FunctionError, match=r"no answer \(.*timed out"):
        interface.invoke(20, timeout_s=0.5)


def test_an_emulator_that_does_not_start_is_an_error(write: Write) -> None:
    broken = replace(write(HELLO), emulator=Path(shutil.which("false") or "/bin/false"))
    with pytest.raises(EmulatorError, match="ended with code 1 before it listened"), running(broken, {}):
        pytest.fail("running() must fail")


@pytest.mark.usefixtures("tools")
def test_an_emulator_with_another_hash_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(emulator.SHA256, TARGET.arch, "0" * 64)
    with pytest.raises(LayerError, match=r"is not the emulator that scripts/layer/emulator\.py pins"):
        fetch_emulator(TARGET)


# --- measurements ---


def test_work_at_import_counts_as_init(write: Write) -> None:
    with running(write(f"import time\ntime.sleep(0.3)\n{HELLO}"), {}) as interface:
        interface.invoke({})
        assert interface.init_ms >= 300


def test_work_in_the_handler_does_not_count_as_init(write: Write) -> None:
    with running(write("import time\ndef handler(event, context): time.sleep(2)"), {}) as interface:
        interface.invoke({})
        assert 0 < interface.init_ms < 2_000


def test_a_function_that_was_not_invoked_has_no_init_time(write: Write) -> None:
    with running(write(HELLO), {}) as interface, pytest.raises(FunctionError, match="did not report the init time"):
        _ = interface.init_ms


def test_memory_held_for_a_moment_counts_in_the_peak(write: Write) -> None:
    with running(write("def handler(event, context): bytearray(event * 10**6)"), {}) as interface:
        interface.invoke(0)
        before_mb = interface.peak_mb
        interface.invoke(100)
        assert interface.peak_mb - before_mb == pytest.approx(100, abs=10)


# --- the function's surroundings ---


@pytest.fixture
def surroundings(write: Write, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    """Return the environment of a function started with one variable by a caller who has another."""
    monkeypatch.setenv("OF_THE_CALLER", "hidden")
    function = write("import os\ndef handler(event, context): return dict(os.environ)")
    with running(function, {"OF_THE_FUNCTION": "given"}) as interface:
        found: Mapping[str, str] = interface.invoke({})
    return found


def test_the_function_sees_none_of_the_callers_environment(surroundings: Mapping[str, str]) -> None:
    assert "OF_THE_CALLER" not in surroundings


def test_the_function_has_the_variables_it_was_given(surroundings: Mapping[str, str]) -> None:
    assert surroundings["OF_THE_FUNCTION"] == "given"


def test_the_function_has_the_variables_that_lambda_sets(surroundings: Mapping[str, str]) -> None:
    assert surroundings["AWS_LAMBDA_FUNCTION_NAME"] == "function"


def test_this_pythons_packages_are_out_of_reach(write: Write) -> None:
    with running(write("import sys\ndef handler(event, context): return sys.path"), {}) as interface:
        assert [place for place in interface.invoke({}) if place.endswith(("site-packages", "dist-packages"))] == []


def test_modules_come_from_the_function_first_then_the_layer(write: Write, tmp_path: Path) -> None:
    layer = tmp_path / "layer"
    layer.mkdir()
    for name in ("common", "deep"):
        (layer / f"{name}.py").write_text("place = 'layer'")
    function = write("import common, deep\ndef handler(event, context): return common.place, deep.place", layer)
    (function.task / "common.py").write_text("place = 'function'")
    with running(function, {}) as interface:
        assert interface.invoke({}) == ["function", "layer"]


def test_nothing_is_written_beside_the_functions_modules(write: Write) -> None:
    function = write(HELLO)
    with running(function, {}) as interface:
        interface.invoke({})
    assert [file.name for file in function.task.iterdir()] == ["handler.py"]


def listening(pid: int) -> set[str]:
    """Return the addresses where a process listens, as the kernel writes them: IPv4 in hexadecimal, last byte first."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            inodes.add(str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]"))
    tables = (Path(f"/proc/net/{name}") for name in ("tcp", "tcp6"))
    rows = [line.split() for table in tables if table.exists() for line in table.read_text().splitlines()[1:]]
    return {row[1].split(":")[0] for row in rows if row[3] == "0A" and row[9] in inodes}


def test_the_interface_listens_only_on_loopback(write: Write) -> None:
    with running(write(PIDS), {}) as interface:
        _, pid = interface.invoke({})
        assert listening(pid) == {"0100007F"}


# --- the end ---


def is_over(pid: int, within_s: float = 3) -> bool:
    """Tell whether a process ends in time; a zombie, which only its parent still holds, has ended."""
    give_up = time.monotonic() + within_s
    while time.monotonic() < give_up:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state in "ZX":
            return True
        time.sleep(0.02)
    return False


def test_emulator_and_function_end_with_the_block(write: Write) -> None:
    with running(write(PIDS), {}) as interface:
        pids = interface.invoke({})
    assert [is_over(pid) for pid in pids] == [True, True]


def test_a_busy_function_also_ends_with_the_block(write: Write) -> None:
    with running(write(BUSY), {}) as interface:
        pid = interface.invoke(0)
        with pytest.raises(FunctionError):
            interface.invoke(20, timeout_s=0.5)
    try:
        assert is_over(pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


# --- the sandbox ---


@pytest.fixture
def room() -> Room:
    """Return a function that runs a line of shell in the sandbox."""
    if why := sandbox.missing():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{why}: CI must run the function in a sandbox like Lambda's")
        pytest.skip(f"left out: {why}")

    def inside(
        line: str, folders: Mapping[str, Path] | None = None, visible: Sequence[Path] = ()
    ) -> subprocess.CompletedProcess[str]:
        words = [*sandbox.command(folders or {}, visible), "sh", "-c", line]
        done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=30)
        assert "bwrap:" not in done.stderr, done.stderr  # otherwise a failure of bwrap would look like a restriction
        return done

    return inside


def test_without_bubblewrap_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "apt install bubblewrap" in sandbox.missing()


def test_bubblewraps_own_error_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    forbidden = tmp_path / "bwrap"
    forbidden.write_text("#!/bin/sh\necho 'setting up uid map: Permission denied' >&2\nexit 1\n")
    forbidden.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert sandbox.missing() == "bubblewrap failed: setting up uid map: Permission denied"


def test_a_folder_inside_a_visible_one_is_not_listed_again(tmp_path: Path) -> None:
    inner, beside = tmp_path / "outer" / "inner", tmp_path / "outer-2"
    for folder in (inner, beside):
        folder.mkdir(parents=True)
    assert sandbox.enclosing([inner, beside, tmp_path / "outer"]) == [tmp_path / "outer", beside]


def test_a_link_and_its_target_are_visible(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to("target")
    assert sandbox.enclosing([tmp_path / "link"]) == [tmp_path / "link", tmp_path / "target"]


def test_only_tmp_can_be_written_inside(room: Room, tmp_path: Path) -> None:
    places = r"while read -r _ place _; do [ -d $place ] && echo $place; done < /proc/mounts; ls -d /*"
    writable = f"for place in $({places}); do [ -w $place ] && echo $place; done"
    assert set(room(writable, {"/opt": tmp_path}, [tmp_path]).stdout.split()) == {"/tmp"}


def test_tmp_has_the_size_of_lambdas(room: Room) -> None:
    assert room("df --block-size=1 --output=size /tmp").stdout.split()[-1] == str(512 * 1024**2)


def test_tmp_starts_empty_and_is_discarded(room: Room) -> None:
    assert [room("ls /tmp; touch /tmp/left-over").stdout for _ in range(2)] == ["", ""]


def test_loopback_is_the_only_network_inside(room: Room) -> None:
    interfaces = [line.split(":")[0].strip() for line in room("cat /proc/net/dev").stdout.splitlines() if ":" in line]
    assert interfaces == ["lo"]


def test_there_is_no_privilege_inside(room: Room) -> None:
    assert "CapEff:\t0000000000000000\n" in room("cat /proc/self/status").stdout


def test_no_time_zones_are_inside(room: Room) -> None:
    assert room("find /usr/share/zoneinfo -type f").stdout == ""


def test_outside_processes_are_invisible_inside(room: Room) -> None:
    assert room("readlink /proc/self/ns/pid").stdout.strip() not in {"", str(Path("/proc/self/ns/pid").readlink())}


def test_folders_appear_at_the_requested_places(room: Room, tmp_path: Path) -> None:
    (tmp_path / "note").write_text("read me")
    assert room(f"cat /opt/note {tmp_path}/note", {"/opt": tmp_path}, [tmp_path]).stdout == "read me" * 2


def test_time_zones_stay_hidden_when_all_of_usr_is_visible() -> None:
    if sandbox.missing():
        pytest.skip("left out: there is no sandbox on this machine")
    command = [*sandbox.command({}, [Path("/usr")]), "find", str(sandbox.ZONES), "-name", "New_York"]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    assert found.stdout == ""


def test_an_emulator_that_never_listens_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lambda_runtime, "START_S", 0.3)
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\nexec sleep 5\n")
    silent.chmod(0o755)
    function = Function(python=TARGET.interpreter(), tools=tmp_path, emulator=silent, task=tmp_path, path=[])
    with pytest.raises(EmulatorError, match="did not listen"), running(function, {}):
        pass


def test_the_memory_of_a_function_that_is_not_running_is_an_error(write: Write) -> None:
    with running(write("def handler(event, context): pass"), {}) as interface, pytest.raises(FunctionError):
        _ = interface.peak_mb


def test_a_python_in_opt_stays_visible_beside_the_layer(tmp_path: Path) -> None:
    if sandbox.missing():
        pytest.skip("left out: there is no sandbox on this machine")
    places = {"/opt/python": tmp_path, "/opt/conda": tmp_path}
    found = subprocess.run([*sandbox.command(places, []), "ls", "/opt"], check=True, capture_output=True, text=True)
    assert found.stdout.split() == ["conda", "python"]


def test_the_function_has_no_writable_home(write: Write) -> None:
    source = "import os\ndef handler(event, context): os.makedirs(os.path.expanduser('~/.cache'))"
    with running(write(source), {}) as interface, pytest.raises(FunctionError, match="FileNotFoundError"):
        interface.invoke({})
