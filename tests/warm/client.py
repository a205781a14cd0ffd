"""Run Python's arguments in a copy of a running Python, and end as the copy ends.

Usage: client.py SOCKET ARGUMENTS... Standard input, output and errors, folder and environment become the copy's, and
signals are passed on. It is started with -I -S and imports only what is compiled into Python, because each command has
to wait for it: the modules that people import instead would take twice as long as Python itself.
"""

import _signal  # type: ignore[import-not-found]  # typeshed does not know it
import _socket
import marshal
import posix
import sys

PASSED_ON = (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP)


def main() -> None:
    """Hand over, wait, and end."""
    path, *words = sys.argv[1:]
    _signal.pthread_sigmask(_signal.SIG_BLOCK, PASSED_ON)  # until there is a process to pass them on to
    line = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    line.connect(path)
    request = marshal.dumps((words, posix.getcwd(), posix.environ))
    files = b"".join(each.to_bytes(4, sys.byteorder) for each in range(3))
    line.sendmsg([len(request).to_bytes(8)], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, files)])
    line.sendall(request)
    pid = receive(line)
    for each in PASSED_ON:
        _signal.signal(each, lambda number, _: posix.kill(pid, number))
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, PASSED_ON)
    code = receive(line)
    if code < 0:
        if -code != _signal.SIGKILL:
            _signal.signal(-code, _signal.SIG_DFL)
        posix.kill(posix.getpid(), -code)
    posix._exit(code)


def receive(line: _socket.socket) -> int:
    """Return the next number of the server's answer."""
    answer = line.recv(8, _socket.MSG_WAITALL)
    assert len(answer) == 8, "the server has ended"
    return int.from_bytes(answer, signed=True)


main()
