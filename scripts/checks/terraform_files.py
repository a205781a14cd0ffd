"""`make terraform-files`: write the settings that Terraform checks, and the tables in the READMEs of its modules.

terraform/settings.json lists every setting with its allowed values, so that a plan refuses a wrong one. Each README.md
below terraform/ lists the resources, inputs and outputs of its folder, between two marks. With CHECK=1 nothing is
written, and the exit code is 1 if a file is not up to date.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from scripts import ROOT, console
from trader.settings import Integer, MemberOf, MembersOf, Number, OneOf, RuleName, list_fields

TERRAFORM = ROOT / "terraform"
BEGIN, END = "<!-- made by make terraform-files: begin -->", "<!-- end -->"
BLOCK = re.compile(
    r'^(variable|output|resource|module) "([\w-]+)"(?: "([\w-]+)")? \{\n(.*?)^\}', re.MULTILINE | re.DOTALL
)
ATTRIBUTE = r"^  {name} *= (.*?)(?=^  \w|^  #|^$|\Z)"


def main() -> None:
    """Write the files, or check them."""
    is_check = console.flag("CHECK")
    stale = {
        path: text for path, text in files().items() if not path.is_file() or path.read_text(encoding="utf-8") != text
    }
    for path, text in stale.items():
        if not is_check:
            path.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{path.relative_to(ROOT)} {'is not up to date' if is_check else 'written'}\n")
    sys.exit(console.FAILED if stale and is_check else console.USABLE)


def files() -> Mapping[Path, str]:
    """Return the text that each file must have."""
    readmes = {path: fill(path) for path in sorted(TERRAFORM.rglob("README.md")) if ".terraform" not in path.parts}
    return {TERRAFORM / "settings.json": json.dumps(list_allowed(), indent=2) + "\n", **readmes}


RULE_FILE = r"^rules/[A-Za-z_][A-Za-z0-9_]*\.py$"
"""The path of an own rule in the function's zip, as a regular expression of Terraform."""


def list_allowed() -> dict[str, dict[str, object]]:
    """Return each setting's allowed words, or the bounds that a plan checks; nothing for free text."""
    return {item.name.upper(): describe(item.metadata["parse"]) for item in list_fields()}


def describe(parse: object) -> dict[str, object]:
    """Return the allowed words or the bounds of a setting; empty for free text."""
    if isinstance(parse, OneOf):
        return {"words": list(parse.words)}
    if isinstance(parse, RuleName):
        return {"words": list(parse.words), "pattern": RULE_FILE}
    if isinstance(parse, MemberOf | MembersOf):
        words: dict[str, object] = {"words": [member.value for member in parse.kind]}
        return {**words, "list": True} if isinstance(parse, MembersOf) else words
    if isinstance(parse, Number):
        return {"above" if parse.above else "min": parse.low, "below" if parse.below else "max": parse.high}
    if isinstance(parse, Integer):
        return {"min": parse.low, "max": parse.high, "whole": True}
    return {}


def fill(path: Path) -> str:
    """Return a README with its tables rebuilt; unchanged if it has no marks."""
    text = path.read_text(encoding="utf-8")
    if BEGIN not in text:
        return text
    head, _, rest = text.partition(BEGIN)
    return f"{head}{BEGIN}\n\n" + "\n".join(tables(path.parent)) + f"\n{END}{rest.partition(END)[2]}"


def tables(folder: Path) -> Iterator[str]:
    """Yield the lines that list the resources, modules, inputs and outputs of a Terraform folder."""
    text = "\n".join(file.read_text(encoding="utf-8") for file in sorted(folder.glob("*.tf")))
    blocks = BLOCK.findall(text)
    made = [f"`{name}`" for kind, name, *_ in blocks if kind == "module"]
    made = [
        *sorted({f"`{name}`" for kind, name, *_ in blocks if kind == "resource"}),
        *(f"module {each}" for each in made),
    ]
    yield f"**Makes** {', '.join(made)}.\n"
    inputs = [(name, body) for kind, name, _, body in blocks if kind == "variable"]
    if inputs:
        yield from ("| Input | Type | Default | Meaning |", "|---|---|---|---|")
        yield from (
            f"| `{name}` | {cell(body, 'type')} | {cell(body, 'default') or 'required'} | {meaning(body)} |"
            for name, body in inputs
        )
        yield ""
    outputs = [(name, body) for kind, name, _, body in blocks if kind == "output"]
    if outputs:
        yield from ("| Output | Meaning |", "|---|---|")
        yield from (f"| `{name}` | {meaning(body)} |" for name, body in outputs)
        yield ""


def cell(body: str, name: str) -> str:
    """Return an attribute as one line of code; empty if it is missing."""
    found = re.search(ATTRIBUTE.format(name=name), body, re.MULTILINE | re.DOTALL)
    words = " ".join(found[1].split()) if found else ""
    return f"`{words if len(words) <= 60 else words.split('(')[0] + '(...)'}`" if words else ""


def meaning(body: str) -> str:
    """Return the first line of a description."""
    found = re.search(r'^  description *= (?:"([^\n]*)"|<<-TEXT\n(.*?)^ *TEXT)', body, re.MULTILINE | re.DOTALL)
    text = (found[1] or found[2].strip().splitlines()[0]) if found else ""
    return text.replace('\\"', '"').replace("|", "\\|")
