"""A Python that has imported the packages, and makes a copy of itself for each command.

Usage: server.py SOCKET PACKAGES... It ends when its standard input ends. Each copy becomes what `python ARGUMENTS`
would be in another folder and environment, except for the seed of hashes, which all copies share, and what the packages
read from the environment when they were imported. A copy that is called as `--serve SOCKET MODULES...` imports more,
and becomes a server itself.
"""

import array
import atexit
import contextlib
import gc
import importlib.machinery
import json
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
from collections.abc import Sequence
from pathlib import Path

OWN = ("scripts", "trader", "lambda_function")
"""The modules of the repository, of which there may be several copies on a machine."""

OF_CONSOLES = ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "LINES", "JUPYTER_COLUMNS")
"""Variables that Rich reads when a console is made, which is when scripts.console is imported."""

LAST_S = 2.0
"""The time for processes that are about to end when the server does."""

CONTEXTS = multiprocessing.context._concrete_contexts  # type: ignore[attr-defined]
FORKSERVER = CONTEXTS["forkserver"]


def serve(path: str) -> None:
    """Answer each connection in a process of its own; return in the copies only."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    # NumPy's linear algebra has threads, but its library prepares them for a fork.
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    gc.freeze()
    print("ready", flush=True)  # noqa: T201 to whoever has started it
    while True:
        ready, _, _ = select.select([listener.fileno(), 0], [], [])
        if 0 in ready:
            until = time.monotonic() + LAST_S
            while reap() and time.monotonic() < until:
                time.sleep(0.01)
            os._exit(0)
        reap()
        line, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            if attend(line):
                return
        line.close()


def reap() -> bool:
    """Wait for those that have ended, so that their CPU time counts as this process's; return whether any is left."""
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        return False
    return True


def attend(line: socket.socket) -> bool:
    """Start the copy that a client asks for, and tell the client how it ends; return True in the copy only."""
    header, files, _, _ = socket.recv_fds(line, 8, 3)
    stream = line.makefile("rb")
    request = json.loads(stream.read(int.from_bytes(header)))
    pid = os.fork()
    if pid == 0:
        become(request, files)
        return True
    for each in files:
        os.close(each)
    with contextlib.suppress(OSError):  # the client may be gone
        line.sendall(f"{pid}\n".encode())
    end = os.pidfd_open(pid)
    ready, _, _ = select.select([end, line.fileno()], [], [])
    if end not in ready:  # the client was killed
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(OSError):
        line.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def become(request: dict[str, object], files: array.array[int] | list[int]) -> None:
    """Take on the arguments, folder, environment and open files of a request."""
    words, folder, variables = request["words"], request["folder"], request["variables"]
    assert isinstance(words, list)
    assert isinstance(variables, dict)
    for number, file in enumerate(files):
        os.dup2(file, number)
    os.closerange(3, 1024)
    os.chdir(str(folder))
    os.environ.clear()
    os.environ.update(variables)
    time.tzset()
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())
    sys.stdin = os.fdopen(0, closefd=False, encoding="utf-8", errors="surrogateescape")
    sys.stdout = os.fdopen(
        1, "w", buffering=1 if os.isatty(1) else -1, closefd=False, encoding="utf-8", errors="surrogateescape"
    )
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False, encoding="utf-8", errors="backslashreplace")
    paths = [str(Path(str(folder), each)) for each in variables.get("PYTHONPATH", "").split(os.pathsep) if each]
    installed = [each for each in sys.path if each.startswith((sys.prefix, sys.base_prefix))]
    sys.path[:] = [str(folder), *paths, *installed]
    if any(map(os.isatty, range(3))) or not variables.keys().isdisjoint(OF_CONSOLES) or not is_imported_from_here():
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


if __name__ == "__main__":
    sys.path.pop(0)  # this folder; with -I, which leaves it out, processes that a copy starts would not have PYTHONPATH
    import_all(sys.argv[2:])
    serve(sys.argv[1])
    run_and_end()
