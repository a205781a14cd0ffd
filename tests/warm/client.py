"""Run Python's arguments in a copy of a running Python, and end as the copy ends.

Usage: client.py SOCKET ARGUMENTS... Standard input, output and errors, folder and environment become the copy's, and
signals are passed on. It is started with -I -S and imports little, because each command has to wait for it.
"""

import json
import os
import signal
import socket
import sys

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> None:
    """Hand over, wait, and end."""
    path, *words = sys.argv[1:]
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)  # until there is a process to pass them on to
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(path)
        request = json.dumps({"words": words, "folder": os.getcwd(), "variables": dict(os.environ)}).encode()  # noqa: PTH109 without pathlib
        socket.send_fds(line, [len(request).to_bytes(8)], [0, 1, 2])
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
