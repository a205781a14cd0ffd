"""AWS's runtime interface emulator and runtime client for a target, fetched once, and functions prepared for them."""

import atexit
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from scripts.layer.archive import unpack
from scripts.layer.bytecode import compile_tree
from scripts.layer.target import BUILD, FOLDER, LayerError, Target
from scripts.layer.wheels import ensure_installed
from scripts.testkit.aws_lambda import Deployment
from scripts.testkit.lambda_runtime import HANDLER, Function

REQUIREMENTS = FOLDER / "emulator.txt"
PROGRAM = "samcli/local/rapid/aws-lambda-rie-{arch}"
CLIENT = ("awslambdaric", "simplejson")
"""The packages of the runtime client that are worth compiling."""

SHA256 = {
    "x86_64": "6b1e686e62ab2baf5759c412c4864276ef2a88b094fca53ec070637ccba9b9a5",
    "arm64": "ec2e5d09633d853834c008b1ef264bf834b258a94d551d2b2074966494b39a21",
}
"""SHA-256 of the emulator in aws-sam-cli 1.170.0, by architecture."""


def fetch_emulator(target: Target) -> tuple[Path, Path]:
    """Return the folder of the emulator's wheels, and the emulator. Raises LayerError unless it is the pinned one."""
    folder = ensure_installed(target, BUILD / f"emulator-python{target.python}-{target.arch}", REQUIREMENTS)
    program = folder / PROGRAM.format(arch=target.arch)
    if not program.is_file() or hashlib.sha256(program.read_bytes()).hexdigest() != SHA256[target.arch]:
        raise LayerError(
            f"{program.name} is not the emulator that scripts/layer/emulator.py pins; delete layer/build and try again"
        )
    for package in CLIENT:  # compiled, as in Lambda's own image, because every init imports it
        if not (folder / package / "__pycache__").is_dir():
            compile_tree(target.interpreter(), folder / package)
    return folder, program


def prepare_function(target: Target, task: Path, path: Sequence[Path], handler: str = HANDLER) -> Function:
    """Return a function as Lambda would start it from unpacked code; fetch the emulator first. Raises LayerError."""
    tools, program = fetch_emulator(target)
    return Function(python=target.interpreter(), tools=tools, emulator=program, task=task, path=path, handler=handler)


def install(deployment: Deployment) -> Function:
    """Unpack the code and layers of a deployed version, and return the function for its configured Python."""
    target = Target(deployment.python, deployment.architecture)
    layers = [unpack_once(layer) / "python" for layer in deployment.layers]
    return prepare_function(target, unpack_once(deployment.code), layers, deployment.handler)


def unpack_once(zipped: bytes) -> Path:
    """Unpack a zip as Lambda would, once per process, and return the folder."""
    folder = _folder() / hashlib.sha256(zipped).hexdigest()
    if not folder.is_dir():
        archive, part = folder.with_suffix(".zip"), folder.with_suffix(".part")
        archive.write_bytes(zipped)
        unpack(archive, part)
        archive.unlink()
        part.rename(folder)
    return folder


@cache
def _folder() -> Path:
    folder = TemporaryDirectory(prefix="deployed-")
    atexit.register(folder.cleanup)
    return Path(folder.name)
