"""The gate for own rules: what is deployed has passed make check-rule as it is, with its parameters."""

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from zipfile import BadZipFile, ZipFile

from scripts import console
from scripts.layer.archive import sha256
from scripts.rules import run
from scripts.rules.passed import find_obstacle
from trader.alpha import own
from trader.alpha.base import RuleError
from trader.settings import PIN, REFERENCE, SettingsError

HANDLER = "lambda_function.py"
"""The file that tells the function's zip from the layer's."""


def check(strategies: Mapping[str, Any], zips: Mapping[Path, str]) -> Iterator[str]:
    """Yield why the own rules of strategies may not be deployed.

    `zips` are those that the plan names, the function's among them, with the hash that AWS has after it; empty if that
    is not known. With CHECK_RULES=1, rules that have no result yet are checked first.
    """
    for name, its in strategies.items():
        environment: Mapping[str, str] = its["environment"]
        signal = environment.get("SIGNAL", "").strip()  # as the settings read it
        if signal.startswith(REFERENCE):
            yield f"{name}: SIGNAL={signal} can name another rule at any time, unchecked; write the rule itself"
        if not own.is_file(signal):
            continue
        try:
            if problem := _find_problem(signal, environment) or find_difference(signal, zips):
                yield f"{name}: {problem}"
        except RuleError as error:
            yield f"{name}: SIGNAL={signal}: {error}"


def _find_problem(signal: str, environment: Mapping[str, str]) -> str:
    """Return why a rule has not passed, after checking it if that was asked for; empty if it has."""
    given = {name: text for name, text in own.list_given(environment).items() if name != PIN}
    try:
        parameters = own.complete(signal, given)
    except RuleError:
        raise
    except ValueError as error:
        return f"SIGNAL={signal}: a parameter cannot be used: {error}"
    obstacle = find_obstacle(signal, parameters)
    if obstacle and obstacle.is_unchecked and console.flag("CHECK_RULES"):
        console.note(f"checking {signal} ...")
        try:
            run.check(signal, given)
        except SettingsError as error:
            return "; ".join(error.problems)
        obstacle = find_obstacle(signal, parameters)
    if not obstacle:
        return ""
    how = ", or CHECK_RULES=1 beside this command" if obstacle.is_unchecked else ""
    return f"{obstacle}{how}"


def find_difference(signal: str, zips: Mapping[Path, str]) -> str:
    """Return which of a rule's files the function's zip has not, or has otherwise than this folder; empty if none."""
    sources = dict(own.list_sources(signal))
    folder = PurePosixPath(signal).parent
    meant = {str(folder / f"{name}.py") for source in sources.values() for name in own.list_imports(source)}
    for path, digest in zips.items():
        try:
            with ZipFile(path) as archive:
                names = set(archive.namelist())
                if HANDLER not in names:
                    continue
                if digest and sha256(path) != digest:
                    return f"{path.name} is not what the plan leaves in AWS; make a new plan"
                if more := sorted(meant & names - sources.keys()):
                    return f"{path.name} has {more[0]}, which the rule imports and the folder lacks; make a new plan"
                for file, source in sources.items():
                    if file not in names:
                        return (
                            f"{path.name} lacks {file}; the zip takes the files of the folder rules, so move it there"
                        )
                    if archive.read(file) != source:
                        return f"{file} has changed since {path.name} was made; make a new plan"
        except (OSError, BadZipFile):
            if digest:
                return f"{path.name} cannot be read, so that the rule in it cannot be compared; make a new plan"
    return ""
