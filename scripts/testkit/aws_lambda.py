"""A bridge from moto's Lambda to AWS's own runtime interface, so that an invocation runs the deployed code.

moto stores functions, versions, aliases and layers, but gives a canned answer to an invocation. Inside `bridge`, an
invocation runs the invoked version's code with its layers and configuration, always from a cold start, and logs to the
function's log group as Lambda does.
"""

import base64
import json
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import requests
from moto.awslambda.models import LambdaFunction
from moto.awslambda.utils import get_backend

from scripts.testkit import lambda_runtime

TAIL_BYTES = 4096
OF_THE_EMULATOR = re.compile(
    r"(START|END|REPORT) RequestId|INIT (START|RTDONE|REPORT)\(|.*\[(INFO|WARNING)\] \(rapid\)"
)
TIMED_OUT = re.compile(r"Task timed out after [\d.]+ seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A deployed version of a function: the zips of its code and layers, and the Python and architecture to run on."""

    python: str
    architecture: str
    handler: str
    code: bytes
    layers: Sequence[bytes]


type Install = Callable[[Deployment], lambda_runtime.Function]
"""A function that unpacks a deployment and finds the Python for it: scripts.layer.emulator.install."""


@contextmanager
def bridge(aws: Mapping[str, str], extra_env: Mapping[str, str], install: Install) -> Iterator[None]:
    """Make synchronous invocations run the function, with `extra_env` in addition to its configured variables.

    `aws` are the variables that point to moto's server, so that the function's own calls go there as well.
    """

    def invoke(self: LambdaFunction, body: str, request: Mapping[str, str], response: dict[str, str]) -> bytes:
        kind = request.get("X-Amz-Invocation-Type", "RequestResponse")
        assert kind == "RequestResponse", f"only synchronous invocations are bridged, not {kind}"
        done = run(self, json.loads(body or "{}"), {**aws, **extra_env}, install)
        tell(self, done.lines)
        response["x-amz-log-result"] = base64.b64encode("".join(done.lines).encode()[-TAIL_BYTES:]).decode()
        response["X-Amz-Executed-Version"] = str(self.version)
        if done.failed:
            response["x-amz-function-error"] = "Unhandled"
        return done.payload

    with patch.object(LambdaFunction, "invoke", invoke):
        yield


@dataclass(frozen=True, slots=True)
class Invocation:
    """The result of an invocation: the payload, whether it is an error, and the lines of the log."""

    payload: bytes
    failed: bool
    lines: Sequence[str]


def run(deployed: LambdaFunction, event: object, env: Mapping[str, str], install: Install) -> Invocation:
    """Run a version of a function for one event, as configured."""
    config = deployed.get_configuration()
    function = install(describe(deployed, config))
    with lambda_runtime.running(function, {**lambda_environment(config), **env}) as interface:
        began = time.perf_counter()
        # Not interface.invoke, which raises an exception for an error: the answer itself is needed here.
        payload = requests.post(interface.url, json=event, timeout=config["Timeout"] + 10).content
        metrics = measure(interface, (time.perf_counter() - began) * 1000) | {"memorySizeMB": config["MemorySize"]}
        log = interface.log
    if timed_out := TIMED_OUT.search(payload.decode()):  # the emulator says so in plain text, not in JSON
        payload = json.dumps({"errorType": "Sandbox.Timedout", "errorMessage": timed_out[0]}).encode()
    answer = json.loads(payload)
    failed = isinstance(answer, dict) and "errorType" in answer
    return Invocation(payload, failed, lines_of(log, config, metrics, status="error" if failed else "success"))


def describe(deployed: LambdaFunction, config: Mapping[str, Any]) -> Deployment:
    """Return a version of a function and its layers as moto stores them."""
    backend = get_backend(deployed.account_id, deployed.region)
    layers = [backend.layers_versions_by_arn(layer["Arn"]) for layer in config["Layers"]]
    return Deployment(
        python=config["Runtime"].removeprefix("python"),
        architecture=config["Architectures"][0],
        handler=config["Handler"],
        code=deployed.code_bytes,
        layers=[layer.code_bytes for layer in layers if layer],
    )


def measure(interface: lambda_runtime.RuntimeInterface, elapsed_ms: float) -> dict[str, float]:
    """Return the metrics of a report; a failed init counts as 0 ms, a process that is gone as 0 MB."""
    init_ms, peak_mb = 0.0, 0.0
    with suppress(lambda_runtime.FunctionError):
        init_ms = interface.init_ms
    with suppress(lambda_runtime.FunctionError, OSError):
        peak_mb = interface.peak_mb
    return {
        "durationMs": round(max(elapsed_ms - init_ms, 0.001), 3),
        "billedDurationMs": math.ceil(elapsed_ms),  # including the init, as billed since August 2025
        "maxMemoryUsedMB": round(peak_mb),
        "initDurationMs": init_ms,
    }


def lambda_environment(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the configured variables, and those that Lambda derives from the rest of the configuration."""
    logging = config.get("LoggingConfig", {})
    level = {"AWS_LAMBDA_LOG_LEVEL": logging["ApplicationLogLevel"]} if "ApplicationLogLevel" in logging else {}
    return {
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(config["MemorySize"]),
        "AWS_LAMBDA_FUNCTION_NAME": config["FunctionName"],
        "AWS_LAMBDA_FUNCTION_TIMEOUT": str(config["Timeout"]),
        "AWS_LAMBDA_FUNCTION_VERSION": str(config["Version"]),
        "AWS_LAMBDA_LOG_FORMAT": logging.get("LogFormat", "Text"),
        "AWS_LAMBDA_LOG_GROUP_NAME": log_group(config),
        **level,
        **config.get("Environment", {}).get("Variables", {}),
    }


def lines_of(log: str, config: Mapping[str, Any], metrics: Mapping[str, float], *, status: str) -> list[str]:
    """Return the log of an invocation: the function's lines between Lambda's, which are JSON if LogFormat is JSON."""
    own = [f"{line}\n" for line in log.splitlines() if line.strip() and not OF_THE_EMULATOR.match(line)]
    found = re.search(r"START RequestId: (\S+)", log)
    request, version = found[1] if found else str(uuid4()), str(config["Version"])
    if config.get("LoggingConfig", {}).get("LogFormat") == "JSON":
        start = system_line("start", {"requestId": request, "version": version})
        report = system_line("report", {"requestId": request, "metrics": metrics, "status": status})
        return [start, *own, report]
    start = f"START RequestId: {request} Version: {version}\n"
    report = f"REPORT RequestId: {request}\tDuration: {metrics['durationMs']} ms\n"
    return [start, *own, f"END RequestId: {request}\n", report]


def system_line(kind: str, record: Mapping[str, object]) -> str:
    """Format a line that Lambda itself logs."""
    moment = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"time": moment, "type": f"platform.{kind}", "record": record}) + "\n"


def tell(deployed: LambdaFunction, lines: Sequence[str]) -> None:
    """Write the lines to the function's log group, in a stream named as Lambda would name it."""
    group = log_group(deployed.get_configuration())
    stream = f"{datetime.now(UTC):%Y/%m/%d}/[{deployed.version}]{uuid4().hex}"
    now_ms = int(time.time() * 1000)
    logs = deployed.logs_backend
    logs.create_log_stream(group, stream)  # the log group exists already: it is created before the function
    logs.put_log_events(group, stream, [{"timestamp": now_ms, "message": line} for line in lines])


def log_group(config: Mapping[str, Any]) -> str:
    """Return the log group that a function logs to."""
    return str(config.get("LoggingConfig", {}).get("LogGroup") or f"/aws/lambda/{config['FunctionName']}")
