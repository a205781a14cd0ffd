"""Terraform's provider for AWS, which tells of a few kinds of resources only.

Usage: terraform_provider.py PROVIDER KIND... It starts the provider's program, prints how Terraform reaches it, as the
provider itself does, and ends when its standard input ends. It passes on all that Terraform asks. Only the description
of the kinds is shortened to the named ones, as they are: the whole one has five megabytes, and every command of
Terraform spends a second or two of the processor on it. For any other kind Terraform says that there is none.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import override

import grpc

ATTACH = "TF_REATTACH_PROVIDERS"
SERVICE = "/tfplugin5.Provider/"
SCHEMA = f"{SERVICE}GetSchema"
BY_KIND = 2, 3
"""The fields of GetProviderSchema.Response that are maps by kind: of resources and of data sources."""

UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def shorten(schema: bytes, kinds: Collection[str]) -> bytes:
    """Return a GetProviderSchema.Response without the resources and data sources of other kinds."""
    kept = [
        whole
        for field, content, whole in fields(schema)
        if field not in BY_KIND or next(fields(content))[1].decode() in kinds
    ]
    return b"".join(kept)


def fields(message: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield the number of each field of a protobuf message, its content, and all its bytes; all are of type LEN."""
    place = 0
    while place < len(message):
        begin = place
        tag, place = varint(message, place)
        assert tag & 7 == 2, f"field {tag >> 3} has wire type {tag & 7}, not LEN"
        length, place = varint(message, place)
        yield tag >> 3, message[place : place + length], message[begin : place + length]
        place += length


def varint(message: bytes, place: int) -> tuple[int, int]:
    """Return the number at a place, and the place after it."""
    number = shift = 0
    while True:
        byte = message[place]
        place += 1
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return number, place


class Shortened(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """Passes calls on to the provider, and answers itself when it is asked for the schema."""

    def __init__(self, provider: grpc.Channel, kinds: Collection[str]) -> None:
        self._ask = cache(provider.unary_unary)
        self._schema = shorten(self._ask(SCHEMA)(b""), kinds)

    @override
    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        if not details.method.startswith(SERVICE):  # streams of go-plugin, which works without them
            return None
        if details.method == SCHEMA:
            return grpc.unary_unary_rpc_method_handler(lambda *_: self._schema)
        return grpc.unary_unary_rpc_method_handler(partial(self._pass_on, self._ask(details.method)))

    def _pass_on(self, ask: Callable[[bytes], bytes], request: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            return ask(request)
        except grpc.RpcError as error:
            context.abort(error.code(), error.details())
            raise


def serve(program: str, kinds: Collection[str], folder: Path) -> None:
    """Start the provider and serve it until the standard input ends; its sockets are in the folder."""
    provider = subprocess.Popen(
        [program, "-debug"],
        env={**os.environ, "PLUGIN_UNIX_SOCKET_DIR": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert provider.stdout is not None, "it is a pipe"
    said = next(line.strip() for line in provider.stdout if line.strip().startswith(ATTACH))
    (there,), here = folder.iterdir(), folder / "shortened"
    with grpc.insecure_channel(f"unix:{there}", options=UNLIMITED) as channel:
        server = grpc.server(ThreadPoolExecutor(32), [Shortened(channel, kinds)], options=UNLIMITED)
        server.add_insecure_port(f"unix:{here}")
        server.start()
        print(said.replace(str(there), str(here)), flush=True)  # noqa: T201 to whoever has started it
        sys.stdin.read()
        provider.kill()
        server.stop(None)


if __name__ == "__main__":
    with TemporaryDirectory(prefix="provider-") as sockets:
        serve(sys.argv[1], sys.argv[2:], Path(sockets))
