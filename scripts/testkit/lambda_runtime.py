"""AWS's own runtime interface on this machine: the emulator from AWS SAM and the runtime client awslambdaric.

Known limits of the emulator: it answers a handler's error with status 200, ends if two requests arrive at once, and
enforces no memory limit. `Init Duration` in its REPORT line is meaningless; its INIT REPORT is right.
"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import sleep
from typing import Any

import requests
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from scripts.console import CommandError

HANDLER = "lambda_function.lambda_handler"
TIMEOUT_S = 300
MEMORY_MB = 512
LAST_LINES = 12
START_S = 60.0
"""Seconds to wait for the emulator to listen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A function to run: its Python, the folders of its code and its layers, and its handler."""

    python: Path
    tools: Path  # contains the emulator and awslambdaric
    emulator: Path
    task: Path  # the unpacked function: the working directory, as in Lambda
    path: Sequence[Path]  # searched for modules after the task, as /opt/python is
    handler: str = HANDLER


class FunctionError(CommandError):
    """The function answered with an error or not at all; the message includes the traceback or the end of the log."""


class EmulatorError(CommandError):
    """The function could not be started, because the emulator or its Python does not start on this machine."""


class RuntimeInterface:
    """A function behind AWS's runtime interface, started on its first invocation."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        self.pid = process.pid  # the emulator's; it leads the session of every process that it starts
        self.url = f"{url}/2015-03-31/functions/function/invocations"
        self._log = log

    def invoke(self, event: object, timeout_s: float = TIMEOUT_S) -> Any:  # noqa: ANN401 whatever the handler returns
        """Return the handler's answer to an event.

        Raises FunctionError for an error, a timeout or no answer, and EmulatorError if Python does not start.
        """
        try:
            answer = requests.post(self.url, data=json.dumps(event), timeout=timeout_s)
            payload = answer.json()
        except (requests.RequestException, ValueError) as error:
            raise FunctionError(
                f"the runtime interface gave no answer ({error}); its log ends with:\n{self.last_words}"
            ) from error
        if isinstance(payload, dict) and "errorType" in payload:
            if payload["errorType"] == "Runtime.InvalidEntrypoint":
                raise EmulatorError(f"the function's Python does not start; the log ends with:\n{self.last_words}")
            told = "\n".join(payload.get("stackTrace") or [f"its log ends with:\n{self.last_words}"])
            raise FunctionError(f"{payload['errorType']}: {payload.get('errorMessage', '')}\n{told}")
        return payload

    @property
    def log(self) -> str:
        """The output of the function and the emulator so far."""
        return self._log.read_text(errors="replace")

    @property
    def last_words(self) -> str:
        """The end of the log, without the emulator's informational lines."""
        lines = [line for line in self.log.splitlines() if "[INFO] (rapid)" not in line]
        return "\n".join(lines[-LAST_LINES:])

    @property
    def init_ms(self) -> float:
        """Milliseconds for starting Python and importing the handler, as measured by the emulator."""
        found = re.search(r"INIT REPORT\(durationMs: ([\d.]+)\)", self.log)
        if not found:
            raise FunctionError(f"the emulator did not report the init time; its log ends with:\n{self.last_words}")
        return float(found[1])

    @property
    def peak_mb(self) -> float:
        """The peak memory of the function's Python in MB (10^6 bytes), without its child processes."""
        found = re.search(r"VmHWM:\s+(\d+) kB", (self._function / "status").read_text())
        assert found, "the kernel reports it for every living process"
        return int(found[1]) * 1024 / 1e6

    @property
    def processor_s(self) -> float:
        """The processor seconds used by the function's Python and by the ended children that it has waited for."""
        figures = (self._function / "stat").read_text().rpartition(")")[2].split()[11:15]  # see proc_pid_stat(5)
        return sum(map(int, figures)) / os.sysconf("SC_CLK_TCK")

    @property
    def _function(self) -> Path:
        threads = Path(f"/proc/{self.pid}/task").iterdir()  # the emulator's: any may have started the function
        children = [child for thread in threads for child in (thread / "children").read_text().split()]
        if not children:
            raise FunctionError(f"the function is no longer running; its log ends with:\n{self.last_words}")
        return Path(f"/proc/{children[0]}")


@contextmanager
def running(function: Function, env: Mapping[str, str]) -> Iterator[RuntimeInterface]:
    """Start the interface with only `env` and Lambda's variables; on exit, end it and every process that it started."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    command = [str(function.emulator), "--runtime-interface-emulator-address", addresses[0]]
    command += ["--runtime-api-address", addresses[1]]
    command += [str(function.python), "-S", "-m", "awslambdaric", function.handler]  # -S: no packages of this Python
    with TemporaryDirectory() as folder, (Path(folder) / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=function.task,
            env={**lambda_environment(function), **env},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            interface = RuntimeInterface(process, f"http://{addresses[0]}", Path(log.name))
            wait_for(addresses[0], process, interface)
            yield interface
        finally:
            end_session(process.pid)
            process.wait()


def end_session(leader: int) -> None:
    """End every process of the session: the emulator, the function and all that the function started.

    Ending one process group is not enough: the function is in another one, and a busy function outlives the emulator.
    """
    while members := [pid for pid in processes() if session(pid) == leader]:
        for pid in members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        sleep(0.01)


def processes() -> list[int]:
    """Return the ids of all living processes, without zombies."""
    found = [path for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [int(path.name) for path in found if state(path) not in {"Z", "X", ""}]


def state(process: Path) -> str:
    """Return the kernel's letter for the state of a process; empty if it is gone."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def session(pid: int) -> int:
    """Return the session id of a process; 0 if it is gone."""
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0


def lambda_environment(function: Function) -> dict[str, str]:
    """Return those of Lambda's variables that Python, its libraries or the function read."""
    return {
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EXECUTION_ENV": "AWS_Lambda_python",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(MEMORY_MB),
        "AWS_LAMBDA_FUNCTION_NAME": "function",
        "AWS_LAMBDA_FUNCTION_TIMEOUT": str(TIMEOUT_S),
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_LOG_FORMAT": "JSON",
        "AWS_REGION": "us-east-1",
        "HOME": "/proc/sbx_user1051",  # does not exist and cannot be created, like Lambda's, which is below /home
        "LAMBDA_TASK_ROOT": str(function.task),
        "LANG": "en_US.UTF-8",
        "LD_LIBRARY_PATH": "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task/lib:/opt/lib",
        "PATH": "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin",
        "TZ": ":UTC",
        # Not set by Lambda:
        "PYTHONDONTWRITEBYTECODE": "1",  # in Lambda a layer is read-only, so nothing may be written to it here
        "PYTHONPATH": os.pathsep.join(map(str, [*function.path, function.tools])),
        "PYTHONTZPATH": "",  # time zones from the layer's tzdata, wherever this runs
        **{name: os.environ[name] for name in ("TMPDIR",) if name in os.environ},  # for machines with a shared /tmp
    }


def free_ports(count: int) -> list[int]:
    """Return free TCP ports on this machine."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def wait_for(address: str, process: subprocess.Popen[bytes], interface: RuntimeInterface) -> None:
    """Wait until the port is open. Raises EmulatorError if the process ends first or the port stays closed."""
    host, port = address.split(":")

    def connect() -> None:
        if process.poll() is not None:
            code, log = process.returncode, interface.last_words
            raise EmulatorError(f"the runtime interface ended with code {code} before it listened:\n{log}")
        socket.create_connection((host, int(port)), timeout=1).close()

    try:
        Retrying(
            retry=retry_if_exception_type(OSError), stop=stop_after_delay(START_S), wait=wait_fixed(0.02), reraise=True
        )(connect)
    except OSError as error:
        raise EmulatorError(
            f"the runtime interface did not listen within {START_S:g} s:\n{interface.last_words}"
        ) from error
