"""A handler that runs in place of the function and reports on its environment; it imports the function itself.

It can import only the standard library, the function and the layer. `make verify-layer` calls it.
"""

import os
import resource
import socket
import ssl
import sys
import sysconfig
from datetime import datetime
from pathlib import Path

import lambda_function  # what Lambda imports at init
from trader.alpaca.client import AlpacaClient
from trader.model import NEW_YORK

RUNTIME_CLIENT = (
    "awslambdaric",
    f"runtime_client{sysconfig.get_config_var('EXT_SUFFIX')}",
    "simplejson",
    "snapshot_restore_py.py",
)
"""Modules that the runtime client provides; requests uses its simplejson if present."""


def resident_mb() -> float:
    """Return the memory that the process uses now, in MB (10^6 bytes)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


AFTER_INIT_MB = resident_mb()


def handler(event: dict[str, str], _context: object) -> dict[str, object]:
    """Report on the environment. `event` names the folders of the layer, the tools and this file."""
    task = os.environ["LAMBDA_TASK_ROOT"]
    construct_adapters()
    own = [
        event["layer"],
        *(f"{event['tools']}/{name}" for name in RUNTIME_CLIENT),
        event["probe"],
        task,
        *(sysconfig.get_path(key) for key in ("stdlib", "platstdlib")),
    ]
    files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
    return {
        "after_init_mb": AFTER_INIT_MB,
        "foreign_modules": sorted(
            name
            for name, file in files.items()
            if file and not any(Path(file).is_relative_to(folder) for folder in own)
        ),
        "new_york_noon_utc": [datetime(2026, month, 1, 12, tzinfo=NEW_YORK).utctimetuple().tm_hour for month in (1, 7)],
        "enforced": {
            "layer and function read-only": not is_writable(event["layer"]) and not is_writable(task),
            "not root": os.getuid() != 0,
            "/tmp of 512 MB": filesystem_bytes("/tmp") <= 512 * 1024**2,  # noqa: S108 the only folder that Lambda lets a function write
            "no /dev/shm": not Path("/dev/shm").exists(),  # noqa: S108 only looked for
            "no network": {name for _, name in socket.if_nameindex()} <= {"lo"},
            "no time zones but the layer's": not Path("/usr/share/zoneinfo/America/New_York").exists(),
        },
    }


def construct_adapters() -> None:
    """Import and construct what the function's defaults do not need."""
    from trader.broker.alpaca import AlpacaBroker
    from trader.prices.alpaca import AlpacaPrices
    from trader.prices.yahoo import YahooPrices

    def credentials(_refresh: bool) -> tuple[str, str]:
        return "nobody", "nothing"

    client = AlpacaClient("https://paper-api.alpaca.markets", "https://data.alpaca.markets", credentials)
    AlpacaBroker(client)
    AlpacaPrices(client, "1d")
    YahooPrices("1d")
    import boto3
    import certifi
    import prophet
    import yfinance

    assert prophet.Prophet(), "Prophet finds its model"
    for bundle in (certifi.where(), botocore_certificates()):
        assert ssl.create_default_context(cafile=bundle).get_ca_certs(), f"no certificates in {bundle}"
    yfinance.Ticker("AAPL")
    for service in ("s3", "ssm"):
        boto3.client(service, aws_access_key_id="nobody", aws_secret_access_key="nothing")  # noqa: S106 opens nothing
    assert callable(lambda_function.run)


def botocore_certificates() -> str:
    """Return the path of botocore's certificate bundle for AWS."""
    from botocore.httpsession import get_cert_path

    return str(get_cert_path(True))


def is_writable(folder: str) -> bool:
    """Check whether a file can be created in a folder, by creating one: root ignores modes."""
    file = Path(folder) / "write-test"
    try:
        file.touch()
    except OSError:
        return False
    file.unlink()
    return True


def filesystem_bytes(folder: str) -> int:
    """Return the size in bytes of the file system that contains a folder."""
    status = os.statvfs(folder)
    return status.f_frsize * status.f_blocks
