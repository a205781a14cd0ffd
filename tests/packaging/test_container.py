"""The image and the dev container: pinned, by locked hashes, without rights and without keys.

These tests read the files. The image is built by the last test, where a container engine answers.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts import ROOT

PYTHON = (ROOT / ".python-version").read_text(encoding="utf-8").strip()
ENGINES = ("podman", "docker")
IMAGE = "prophet-trader-of-the-tests"
SECRET = re.compile(r"ALPACA|APCA|AWS_|TOKEN|SECRET|PASSWORD|KEY", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Instruction:
    """An instruction of the Containerfile: its word, its arguments, and the number of its stage, from 1."""

    word: str
    arguments: str
    stage: int


def read_instructions() -> Iterator[Instruction]:
    """Yield the instructions of the Containerfile, each with its continued lines joined."""
    lines = (ROOT / "Containerfile").read_text(encoding="utf-8").splitlines()
    joined = "\n".join(line for line in lines if not line.startswith("#")).replace("\\\n", " ")
    stage = 0
    for line in filter(None, joined.splitlines()):
        word, _, arguments = line.partition(" ")
        stage += word == "FROM"
        yield Instruction(word, " ".join(arguments.split()), stage)


INSTRUCTIONS = tuple(read_instructions())
FINAL = [each for each in INSTRUCTIONS if each.stage == INSTRUCTIONS[-1].stage]


def arguments_of(word: str, instructions: Sequence[Instruction] = INSTRUCTIONS) -> list[str]:
    """Return the arguments of all instructions of a kind."""
    return [each.arguments for each in instructions if each.word == word]


# --- the image ---


def test_both_stages_have_the_same_base_pinned_to_one_release_of_the_projects_python() -> None:
    first, *others = [base.partition(" AS ")[0] for base in arguments_of("FROM")]
    assert set(others) == {first}
    pinned = rf"docker\.io/library/python:{re.escape(PYTHON)}\.\d+-slim-[a-z]+(@sha256:[0-9a-f]{{64}})?"
    assert re.fullmatch(pinned, first)


def test_whatever_comes_from_the_index_comes_by_a_locked_hash() -> None:
    commands = [command for run in arguments_of("RUN") for command in run.split("&&")]
    fetching = [
        each for each in commands if re.search(r"\b(pip install|uv build)\b", each) and "/tmp/dist/" not in each
    ]
    assert fetching
    assert [each for each in fetching if "--require-hashes" not in each] == []


def test_no_instruction_downloads_anything_else() -> None:
    assert re.findall(r"\b(curl|wget|apt-get|apt|git|npm)\b", " ".join(arguments_of("RUN"))) == []
    assert arguments_of("ADD") == []


def test_the_built_wheel_brings_no_packages_with_it() -> None:
    (command,) = [
        each for run in arguments_of("RUN") for each in run.split("&&") if "/tmp/dist/" in each and "install" in each
    ]
    assert "--no-deps" in command


def test_no_package_of_development_reaches_the_image() -> None:
    assert [each for each in arguments_of("RUN", FINAL) if "install" in each.split() or "pip" in each] == [
        "useradd --uid 10001 --create-home trader && install -d -o trader /data"
    ]
    assert "install -r requirements/dev.txt" not in " ".join(arguments_of("RUN"))


def test_only_named_files_are_copied() -> None:
    copied = {path for each in arguments_of("COPY") for path in each.split()[:-1] if not path.startswith("--from=")}
    assert copied - {"/opt/prophet-trader"} == {
        *("requirements/uv.txt", "requirements/run.txt", "requirements/dev.txt"),
        *("pyproject.toml", "README.md", "LICENSE", "function", "scripts"),
    }


def test_the_context_holds_no_more_than_what_is_copied() -> None:
    lines = (ROOT / ".containerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule for rule in rules if rule.startswith("!")} == {
        *("!function/", "!scripts/", "!requirements/", "!pyproject.toml", "!README.md", "!LICENSE")
    }


def test_the_bot_runs_as_a_user_without_rights() -> None:
    words = [each.word for each in FINAL]
    assert arguments_of("USER", FINAL) == ["trader"]
    assert words.index("USER") > words.index("RUN")


def test_the_image_runs_the_command() -> None:
    assert [json.loads(each) for word in ("ENTRYPOINT", "CMD") for each in arguments_of(word, FINAL)] == [
        ["prophet-trader"],
        ["run"],
    ]


def test_no_key_is_set_in_the_image() -> None:
    assert [each for word in ("ENV", "ARG") for each in arguments_of(word) if SECRET.search(each)] == []


# --- the dev container ---


def dev_container() -> dict[str, object]:
    """Return the dev container's settings; the comments of JSONC are whole lines."""
    lines = (ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8").splitlines()
    read: dict[str, object] = json.loads("\n".join(line for line in lines if not line.lstrip().startswith("//")))
    return read


def test_the_dev_container_uses_words_of_the_specification_only() -> None:
    known = {"name", "image", "features", "containerEnv", "onCreateCommand", "postCreateCommand", "customizations"}
    assert set(dev_container()) == known


def test_the_dev_container_has_the_projects_python() -> None:
    assert str(dev_container()["image"]).partition(":")[2].startswith(f"{PYTHON}-")


def test_the_dev_container_has_the_terraform_of_ci() -> None:
    action = (ROOT / ".github" / "actions" / "prepare" / "action.yml").read_text(encoding="utf-8")
    found = re.search(r"terraform_version: (\S+)", action)
    assert found
    features = dev_container()["features"]
    assert isinstance(features, dict)
    assert features["ghcr.io/devcontainers/features/terraform:1"]["version"] == found[1]


def test_the_dev_container_sets_up_all_that_is_needed_to_develop() -> None:
    assert dev_container()["postCreateCommand"] == "make setup"


def test_no_key_is_passed_into_the_dev_container() -> None:
    assert not SECRET.search(json.dumps(dev_container()))


# --- building ---


def find_engine() -> str | None:
    """Return a container engine that answers; None if there is none."""
    for engine in ENGINES:
        if shutil.which(engine) and subprocess.run([engine, "info"], capture_output=True, check=False).returncode == 0:
            return engine
    return None


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_image_can_be_built_and_runs_the_bot(tmp_path: Path) -> None:
    engine = find_engine()
    if engine is None:
        pytest.skip("no container engine answers, so the Containerfile was read only, not built")
    subprocess.run([engine, "build", "--file", "Containerfile", "--tag", IMAGE, "."], cwd=ROOT, check=True)
    done = subprocess.run(
        [engine, "run", "--rm", "--network", "none", IMAGE], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "out/run.html" in done.stdout
