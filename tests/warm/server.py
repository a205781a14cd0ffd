"""A Python that has imported the packages, and makes a copy of itself for each command.

Usage: server.py SOCKET PACKAGES... It ends when its standard input ends. Each copy becomes what `python ARGUMENTS`
would be in another folder and environment, except for the seed of hashes, which all copies share, and what the packages
read from the environment when they were imported. A copy that is called as `--serve SOCKET MODULES...` imports more,
and becomes a server itself.
"""

import atexit
import contextlib
import functools
import gc
import importlib.machinery
import marshal
import multiprocessing.context
import os
import runpy
import select
import signal
import socket
import sys
import threading
import time
import types
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

OWN = ("scripts", "trader", "lambda_function")
"""The modules of the repository, of which there may be several copies on a machine."""

OF_CONSOLES = ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "LINES", "JUPYTER_COLUMNS")
"""Variables that Rich reads when a console is made, which is when scripts.console is imported."""

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that a client passes on."""

SERVICES = ("sts", "ssm", "s3", "logs", "lambda", "iam", "sns", "cloudwatch", "events")
"""What the commands use of AWS."""

CONTEXTS = multiprocessing.context._concrete_contexts  # type: ignore[attr-defined]
FORKSERVER = CONTEXTS["forkserver"]


def serve(path: str) -> None:
    """Copy this process for each client, and tell the client how the copy ends; return in the copies only."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    # NumPy's linear algebra has threads, but its library prepares them for a fork.
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    gc.freeze()
    print("ready", flush=True)  # noqa: T201 to whoever has started it
    events = select.poll()
    events.register(listener, select.POLLIN)
    events.register(0, select.POLLIN)
    copies: dict[int, tuple[socket.socket, int, int]] = {}  # by each of the files at which its end is seen
    while True:
        for file, _ in events.poll():
            if file == 0:
                os._exit(0)
            if file == listener.fileno():
                line, _ = listener.accept()
                signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)  # the copy unblocks them when it is the program
                pid = os.fork()
                if pid == 0:
                    become(*request_on(line))
                    return
                signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
                send(line, pid)
                end = os.pidfd_open(pid)
                events.register(end, select.POLLIN)
                events.register(line, 0)  # only for the end of the client, as the copy reads what the client says
                copies[end] = copies[line.fileno()] = line, end, pid
            elif file in copies:  # but not after both events at once
                line, end, pid = copies[file]
                if file != end:
                    os.kill(pid, signal.SIGKILL)  # as the client was
                _, status = os.waitpid(pid, 0)
                send(line, os.waitstatus_to_exitcode(status))
                for each in (end, line.fileno()):
                    events.unregister(each)
                    del copies[each]
                os.close(end)
                line.close()


def send(line: socket.socket, number: int) -> None:
    """Send a number to a client, which may be gone."""
    with contextlib.suppress(OSError):
        line.sendall(number.to_bytes(8, signed=True))


def request_on(line: socket.socket) -> tuple[list[str], str, dict[bytes, bytes], list[int]]:
    """Read a client's arguments, folder, environment and open files."""
    header, files, _, _ = socket.recv_fds(line, 8, 3)
    with line.makefile("rb") as stream:
        request = stream.read(int.from_bytes(header))
    if not header or len(request) < int.from_bytes(header):  # the client was killed
        os._exit(1)
    words, folder, variables = marshal.loads(request)
    return words, folder, variables, files


def become(words: list[str], folder: str, variables: Mapping[bytes, bytes], files: Sequence[int]) -> None:
    """Take on the arguments, folder, environment and open files of a request."""
    for number, file in enumerate(files):
        os.dup2(file, number)
    os.closerange(3, 1024)
    os.chdir(folder)
    os.environ.clear()
    os.environb.update(variables)
    time.tzset()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())
    sys.stdin = os.fdopen(0, closefd=False, encoding="utf-8", errors="surrogateescape")
    sys.stdout = os.fdopen(
        1, "w", buffering=1 if os.isatty(1) else -1, closefd=False, encoding="utf-8", errors="surrogateescape"
    )
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False, encoding="utf-8", errors="backslashreplace")
    paths = [str(Path(folder, each)) for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each]
    installed = [each for each in sys.path if each.startswith((sys.prefix, sys.base_prefix))]
    sys.path[:] = [folder, *paths, *installed]
    if any(map(os.isatty, range(3))) or not os.environ.keys().isdisjoint(OF_CONSOLES) or not is_imported_from_here():
        forget()
    # The workers of a copy are copies too: multiprocessing's own server would import the packages again for them. But a
    # worker of pytest, which is called with -u, has threads, and must not be copied.
    is_of_pytest = words[0] == "-u"
    CONTEXTS["forkserver"] = FORKSERVER if is_of_pytest else CONTEXTS["fork"]
    sys.argv = words[is_of_pytest:]


def is_imported_from_here() -> bool:
    """Tell whether the modules of the repository are those that an import would find."""
    for name in OWN:
        if name in sys.modules:
            found = importlib.machinery.PathFinder.find_spec(name, sys.path)
            if found is None or found.origin != sys.modules[name].__file__:
                return False
    return True


def forget() -> None:
    """Forget the modules of the repository, so that they are imported again."""
    for name in [*sys.modules]:
        if name.partition(".")[0] in OWN:
            del sys.modules[name]


def run_and_end() -> None:
    """Run the program, and end with its exit code: without freeing all that is imported, most of the work of a copy.

    Other ends than an exit code, such as Ctrl-C and exceptions, are left to Python.
    """
    code = 0
    try:
        run()
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            raise
        code = end.code or 0
    threading._shutdown()  # type: ignore[attr-defined]  # waits for the threads, as Python does at its end
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        sys.exit(code)  # Python says what it thinks of a full disk or a closed pipe
    os._exit(code & 0xFF)


def run() -> None:
    """Run the program in sys.argv as Python would: -m MODULE ARGUMENTS, or -c CODE ARGUMENTS; or become a server."""
    kind, program, *rest = sys.argv
    while kind == "--serve":
        import_all(rest)
        serve(program)
        kind, program, *rest = sys.argv  # of the copy
    sys.argv = [program if kind == "-m" else kind, *rest]
    if kind == "-m":
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    else:
        assert kind == "-c", f"{kind} is neither -m nor -c"
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(program, "<string>", "exec"), main.__dict__)


def import_all(names: Sequence[str]) -> None:
    """Import modules, those that are loaded already included."""
    for name in names:
        importlib.import_module(name)


def read_descriptions() -> None:
    """Let boto3, if it is imported, read the descriptions of AWS's services once, a tenth of a second for each copy."""
    if "boto3" in sys.modules:
        import boto3
        import botocore.session
        from botocore.loaders import create_loader

        botocore.session.create_loader = functools.cache(create_loader)
        session = boto3.Session("none", "none", region_name="us-east-1")
        for service in SERVICES:
            session.client(service)  # type: ignore[call-overload]


if __name__ == "__main__":
    sys.path.pop(0)  # this folder; with -I, which leaves it out, processes that a copy starts would not have PYTHONPATH
    import_all(sys.argv[2:])
    read_descriptions()
    serve(sys.argv[1])
    run_and_end()
