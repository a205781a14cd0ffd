"""The way from make to the command line: check all that was typed, and hand it over.

make itself ignores what it does not know: `make run mode=dry-run` would trade, and `make run MODE= dry-run` would trade
before the goal `dry-run` fails. So every recipe calls this module, which looks at everything that make was given and
refuses it, before the command begins, if any of it has no meaning for the command.
"""

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path

from scripts import command, console
from scripts.command import ON, RULE_PARAMETER, SECRETS, Option, nearest
from scripts.console import OFF

MAKES_OWN = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MAKE_GOALS")
"""Variables that make gives to its recipes. Removed before the command begins, as it may call another make."""

ASSIGNMENT = re.compile(r"(?P<name>[^=]*?)[:+?!]*=(?P<value>.*)", re.DOTALL)
TAKES_VALUE = "CfIjlE"
"""make's options whose value may follow in the same word."""

FOLLOWED_BY_VALUE = {"-C", "-E", "-I", "-W", "-f", "-o"}
"""make's options whose value may be the next word."""


def main() -> None:
    """Run the command of a goal with the variables that were given to make. Exits with 2 if any was not understood.

    make calls it without a goal if it has no rule for one of them.
    """
    console.survive_closed_pipes()
    words, typed = what_was_typed(os.environ)
    goals = os.environ.get("MAKE_GOALS", "").split() or sys.argv[1:]
    goal = sys.argv[1] if len(sys.argv) > 1 else ""
    for name in (*MAKES_OWN, *typed):
        os.environ.pop(name, None)
    problems = [*check_goals(goals, words), *check_words(words)]
    problems += check_variables(goal, goals, typed) if goal else []
    if problems:
        for problem in problems:
            console.ERR.print(problem, style="red", soft_wrap=True)
        console.ERR.print("nothing was run", style="red")
        sys.exit(console.USAGE)
    command.run_program(to_arguments(goal, typed))


def what_was_typed(env: Mapping[str, str]) -> tuple[Sequence[str], dict[str, str]]:
    """Return make's own words, if the system shows them, and the variables that it was given."""
    words = list(read_words(os.getppid()))
    typed = dict(read_variables(env.get("MAKEFLAGS", "")))
    if emptied := [word for word in words if word.startswith(("MAKEFLAGS", "MAKEOVERRIDES")) and "=" in word]:
        typed |= {word.partition("=")[0].rstrip(":+?!"): word for word in emptied}  # they hide all other variables
    return words, typed


def read_variables(flags: str) -> Iterator[tuple[str, str]]:
    r"""Yield names and values from MAKEFLAGS, in which make writes `\ ` for a blank, `\\` and `$$`.

    Before them stand make's options, which end with `--`.
    """
    head, separator, rest = flags.partition("-- ")
    for word in re.findall(r"(?:\\.|[^\s\\])(?:\\.|[^ \\])*", rest if separator else head, re.DOTALL):
        text = re.sub(r"\\(.)", r"\1", word, flags=re.DOTALL).replace("$$", "$")
        if found := ASSIGNMENT.fullmatch(text):
            yield found["name"].strip(), found["value"]


def read_words(process_id: int, depth: int = 3) -> Iterator[str]:
    """Yield the words that make was called with, on systems that have /proc. `process_id` is make's, or its shell's."""
    try:
        words = Path(f"/proc/{process_id}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
        parent = int(Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return
    if words and Path(words[0]).name in {"make", "gmake"}:
        yield from words[1:]
    elif depth and parent > 1:
        yield from read_words(parent, depth - 1)


def check_goals(goals: Sequence[str], words: Sequence[str] = ()) -> Iterator[str]:
    """Yield the problems of make's goals: unknown ones, and several of which one must be alone.

    An unknown goal is most often a value after a blank, as in `MODE= dry-run`; `words` show what stood before it.
    """
    known = [*command.names(), "help"]
    unknown = [goal for goal in goals if goal not in known]
    before = dict(zip(words[1:], words, strict=False))
    for goal in unknown:
        name, equals, value = before.get(goal, "").partition("=")
        guess = nearest(goal, known)
        if equals:
            items = [*value.rstrip(",").split(","), goal] if value else [goal]
            hint = f"write {name}={','.join(items)} without a blank"
        elif guess:
            hint = f"did you mean make {guess}?"
        else:
            hint = f"a value is given as NAME={goal}; plain make lists the targets"
        yield f"make {' '.join(goals)}: there is no target {goal!r}; {hint}"
    alone = [goal for goal in goals if goal in command.names() and not command.find(goal).combines]
    if len(goals) > 1 and alone and not unknown:
        yield f"make {' '.join(goals)}: {alone[0]} must be the only target; call make once for each"


def check_words(words: Sequence[str]) -> Iterator[str]:
    """Yield the problems that only make's own words show: variables given twice, and options that make misreads."""
    seen: dict[str, str] = {}
    for before, word in zip(["", *words], words, strict=False):
        misread = word if re.match("--(old|new|assume|what)", word) else ""
        if before in FOLLOWED_BY_VALUE:
            misread = f"{before} {word}" if before in {"-o", "-W"} and not word.startswith(".venv/") else ""
        elif re.match("-[^-]", word) and word not in FOLLOWED_BY_VALUE:
            letters = re.split(f"[{TAKES_VALUE}]", word)[0]
            misread = word if {"o", "W"} & set(letters) else ""
        elif not word.startswith("-") and (found := ASSIGNMENT.fullmatch(word)):
            if found["name"] in seen:
                yield f"{found['name']} is given twice: {seen[found['name']]} and {word}; give it once"
            seen[found["name"]] = word
        if misread:
            yield f"make reads {misread} as an option of its own; write NAME=value, such as MODE=dry-run"


def check_variables(goal: str, goals: Sequence[str], typed: Mapping[str, str]) -> Iterator[str]:
    """Yield the problems of the variables: names that no goal takes, and values that are empty."""
    options = {
        option.name: option for each in goals if each in command.names() for option in command.find(each).all_options()
    }
    for name, value in typed.items():
        if name == "HELP":
            yield from command.check_help(value)
            continue
        option = options.get(name)
        if is_rule_parameter(goals, name):
            option = of_rule(name)
        if name in SECRETS:
            yield f"{name} {command.NOT_TAKEN}"
        elif option is None:
            guess = nearest(name, [*options, "HELP"])
            hint = f"did you mean {guess}?" if guess else "it takes " + (shorten(list(options)) or "no variables")
            yield f"{name} is not a variable of make {goal}; {hint} (make {goal} HELP=1 lists them)"
        elif not value.strip():
            yield f"{name} is given without a value; write {name}=value without blanks, or leave it out for the default"
        elif option.is_flag and value not in ON | OFF:
            yield f"{name}={value}: must be 1 or 0"


def is_rule_parameter(goals: Iterable[str], name: str) -> bool:
    """Check whether a variable sets a parameter of an own rule, and a goal takes those."""
    takes_rules = any(command.find(goal).takes_rules for goal in goals if goal in command.names())
    return takes_rules and bool(RULE_PARAMETER.fullmatch(name))


def of_rule(name: str) -> Option:
    """Return the option for a parameter of an own rule."""
    return Option(name=name, meaning="a parameter of the rule that SIGNAL names")


def shorten(names: Sequence[str], most: int = 8) -> str:
    """Return the first names, and `...` for the others."""
    return ", ".join([*names[:most], *(["..."] if len(names) > most else [])])


def to_arguments(goal: str, typed: Mapping[str, str]) -> list[str]:
    """Return the command line that means the same as make's variables; those of other goals are left out."""
    options: Mapping[str, Option] = {option.name: option for option in command.find(goal).all_options()}
    if typed.get("HELP") in ON:
        return [goal, "--help"]
    rules = {name: of_rule(name) for name in typed if is_rule_parameter([goal], name)}
    given = [({**options, **rules}[name], value) for name, value in typed.items() if name in {*options, *rules}]
    turn_off(os.environ, [option.name for option, value in given if option.is_flag and value in OFF])
    return [
        goal,
        *(option.flag for option, value in given if option.is_flag and value in ON),
        *(f"{option.flag}={value}" for option, value in given if not option.is_flag),
    ]


def turn_off(env: MutableMapping[str, str], names: Iterable[str]) -> None:
    """Let `JSON=0` given to make win over JSON=1 in the environment."""
    env.update(dict.fromkeys(names, "0"))


if __name__ == "__main__":
    main()
