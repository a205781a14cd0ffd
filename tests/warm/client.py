"""Run Python's arguments in a copy of a running Python, and end as the copy ends.

Usage: client.py SOCKET ARGUMENTS... Open files, folder and environment become the copy's, and signals are passed on.
It is started with -I -S and imports little, because each command has to wait for it.
"""

import json
import os
import signal
import socket
import sys

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def is_open(file: int) -> bool:
    """Tell whether a file is open."""
    try:
        os.fstat(file)
    except OSError:
        return False
    return True


def main() -> None:
    """Hand over, wait, and end."""
    path, *words = sys.argv[1:]
    files = [int(name) for name in os.listdir("/proc/self/fd")]  # noqa: PTH208 without pathlib
    files = [number for number in files if number < 3 or is_open(number)]  # the list itself was one of them
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)  # until there is a process to pass them on to
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(path)
        request = json.dumps(
            {"words": words, "folder": os.getcwd(), "variables": dict(os.environ), "files": files}  # noqa: PTH109 without pathlib
        ).encode()
        socket.send_fds(line, [len(request).to_bytes(8)], files)
        line.sendall(request)
        answers = line.makefile()
        pid = int(answers.readline())
        for each in PASSED_ON:
            signal.signal(each, lambda number, _: os.kill(pid, number))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
        code = int(answers.readline())
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


main()
