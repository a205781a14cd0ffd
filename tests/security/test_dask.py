"""Nothing of this project opens a Dask scheduler or worker to others: they run whatever code they are sent."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from textwrap import dedent

import pytest

from scripts import ROOT
from scripts.sweep import cluster, executors
from scripts.sweep.config import SweepConfig
from trader.settings import SettingsError

PAGE = (ROOT / "docs" / "how-to" / "choose-settings.md").read_text(encoding="utf-8")
COMMANDS = [
    *re.findall(r"^\$ (.*\bdask (?:scheduler|worker)\b.*)$", PAGE, re.MULTILINE),
    executors.START_SCHEDULER,
    executors.start_workers("tcp://127.0.0.1:8786"),
    executors.start_workers("tls://host:8786"),
]
"""Every command of the page and of the messages that starts a part of a cluster."""


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_listens_to_this_computer_alone_or_demands_a_certificate(command: str) -> None:
    assert re.search(r"--host 127\.0\.0\.1\b|--protocol tls\b| tls://", command)
    assert "--no-dashboard" in command


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:8786", "tcp://localhost:8786", "tls://10.0.0.5:8786"])
def test_a_scheduler_is_used_on_this_computer_or_over_tls(address: str) -> None:
    assert SweepConfig.from_env({"SCHEDULER": address}, "").scheduler == address


@pytest.mark.parametrize(
    "address",
    ["tcp://10.0.0.5:8786", "tcp://host:8786", "tcp://127.0.0.1.example.com:8786", "tcp://0.0.0.0:8786", "host:8786"],
)
def test_a_scheduler_elsewhere_without_tls_is_refused(address: str) -> None:
    with pytest.raises(SettingsError, match=r"or tls://host:8786, as docs/how-to/choose-settings.md shows"):
        SweepConfig.from_env({"SCHEDULER": address}, "")


@pytest.mark.skipif(sys.platform != "linux", reason="left out: it reads /proc")
def test_a_cluster_for_tests_listens_to_this_computer_alone() -> None:
    with cluster.cluster(0) as address:
        port = int(address.rpartition(":")[2])
        listening = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="utf-8").splitlines()[1:]]
    here = [words[1] for words in listening if words[3] == "0A" and int(words[1].split(":")[1], 16) == port]
    assert here == [f"0100007F:{port:04X}"]


# --- the page's commands ---


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Start the page's scheduler and a worker, on a free port of this computer; yield the address and a client's
    environment.
    """
    folder = tmp_path_factory.mktemp("dask")
    block = PAGE.split("must demand a certificate")[1].split("```console\n")[1].split("```")[0]
    prepare = [line.removeprefix("$ ").split("   #")[0] for line in block.splitlines()[:4]]
    said = subprocess.run(
        ["/bin/sh", "-ec", "\n".join([*prepare, "env"])], cwd=folder, check=True, capture_output=True, text=True
    ).stdout
    env = {**os.environ, **dict(line.split("=", 1) for line in said.splitlines() if line.startswith("DASK_"))}
    known = folder / "scheduler.json"
    common = ["--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(known)]
    with ExitStack() as processes:
        for words in (["scheduler", "--protocol", "tls", "--port", "0"], ["worker", "--nthreads", "1", "--no-nanny"]):
            its = {**env, "PYTHONPATH": f"{ROOT / 'function'}:{ROOT}"}
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *words, *common], cwd=folder, env=its, stderr=subprocess.DEVNULL
            )
            processes.callback(process.wait)
            processes.callback(process.terminate)
        yield str(known), env


CLIENT = dedent("""
    import json, sys, distributed, time
    from pathlib import Path
    while not Path(sys.argv[1]).is_file():
        time.sleep(0.02)
    address = json.loads(Path(sys.argv[1]).read_text())["address"]
    client = distributed.Client(address, timeout=float(sys.argv[2]), set_as_default=False)
    client.wait_for_workers(1, timeout=60)
    print(address, client.submit(sum, [1, 2]).result())
""")


def ask(known: str, env: Mapping[str, str], timeout_s: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CLIENT, known, str(timeout_s)],
        env=env,
        cwd=Path(known).parent,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_client_with_the_certificate_is_served(certified: tuple[str, Mapping[str, str]]) -> None:
    done = ask(*certified, 60)
    assert re.fullmatch(r"tls://127\.0\.0\.1:\d+ 3\n", done.stdout), done.stderr


@pytest.mark.parametrize("lacking", ["all", "the client's own"])
def test_a_client_without_the_certificate_is_not_served(certified: tuple[str, Mapping[str, str]], lacking: str) -> None:
    known, env = certified
    kept = {name: value for name, value in env.items() if not name.startswith("DASK_")}
    if lacking != "all":
        kept["DASK_DISTRIBUTED__COMM__TLS__CA_FILE"] = env["DASK_DISTRIBUTED__COMM__TLS__CA_FILE"]
    done = ask(known, kept, 2)
    assert (done.returncode, done.stdout) == (1, "")
