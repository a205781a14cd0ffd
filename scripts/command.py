"""What a command is: its summary, its options, and the function that does the work.

An option has one name in three dialects: `--max-order-usd 500` on the command line, `MAX_ORDER_USD=500` given to make,
and the environment variable MAX_ORDER_USD. Its value is text, and the command's own code reads and checks it, so that
all three end in the same error.
"""

import gc
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module, resources
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click
from click.shell_completion import CompletionItem

from scripts import console
from scripts.console import OFF

PROGRAM = "prophet-trader"
SECRETS = {"ALPACAUSER", "ALPACAPW", "MESSAGE_URL"}
"""Settings that a command line does not take, because other users of the machine can read it."""

NOT_TAKEN = "is not taken from the command line, where others can read it: set it in the environment"

ON = {"1", "true", "yes"}
SWITCH = ("1", "0")
"""The words of an option that is on unless it is turned off."""

RULE_PARAMETER = re.compile(r"RULE_[A-Z0-9_]+")
"""A variable that sets a parameter of an own rule; the rule's file says which there are."""

OF_OTHERS = {"BROWSER"}
"""Switches whose name means something else in many environments, so that any value is let pass there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """An option of a command: the variable's name, its meaning, and its allowed words if only some are allowed."""

    name: str
    meaning: str
    metavar: str = "TEXT"
    words: tuple[str, ...] = ()
    is_flag: bool = False
    is_list: bool = False  # a comma-separated list of `words`

    @property
    def is_on_or_off(self) -> bool:
        """True for a flag, and for an option that is on unless it is turned off."""
        return self.is_flag or self.words == SWITCH

    @property
    def flag(self) -> str:
        """The option as it is written on a command line: --max-order-usd."""
        return "--" + self.name.lower().replace("_", "-")


JSON = Option(name="JSON", meaning="print the result as JSON", is_flag=True)
CLOUD = (
    Option(name="PROJECT", meaning="the prefix of all names in AWS (default: prophet-trader)", metavar="NAME"),
    Option(name="AWS_REGION", meaning="the region (default: that of the AWS profile)", metavar="REGION"),
    Option(name="AWS_PROFILE", meaning="the profile of ~/.aws/config", metavar="NAME"),
)
"""Options of every command that talks to AWS."""

RECORDED_RULE = Option(
    name="RECORDED_RULE",
    meaning="run the text of an own rule that a record has, if the file has changed since",
    is_flag=True,
)
"""An option of the commands that decide again."""

TARGET = (
    Option(
        name="ARCH",
        meaning="the processor of the Lambda function (default: x86_64)",
        metavar="ARCH",
        words=("x86_64", "arm64"),
    ),
    Option(
        name="PYTHON",
        meaning="the Python of the Lambda function (default: 3.13)",
        metavar="VERSION",
        words=("3.13", "3.14"),
    ),
)
"""Options of every command that builds, runs or counts on a layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command. `main` names its function as module:function, which is imported only when the command is called.

    `settings` returns the names of the bot's settings that the command takes. A command that `combines` may be one of
    several goals of make, as in `make lint test`.
    """

    main: str
    description: str
    options: tuple[Option, ...] = ()
    settings: Callable[[], Sequence[str]] = tuple
    combines: bool = False
    needs_clone: bool = False

    def all_options(self) -> Sequence[Option]:
        """Return the command's own options, and then those that are settings of the bot."""
        names = set(self.settings())
        own = {each.name for each in self.options}
        settings = setting_options() if names else ()
        return (*self.options, *(each for each in settings if each.name in names - own))

    @property
    def takes_rules(self) -> bool:
        """True if the command takes SIGNAL, and so the parameters of an own rule."""
        return "SIGNAL" in self.settings()


def every_setting() -> Sequence[str]:
    """Return the names of all settings but the secrets."""
    return [each.name for each in setting_options()]


@cache
def setting_options() -> Sequence[Option]:
    """Return an option for each of the bot's settings but the secrets, in the order of their declaration."""
    from scripts.checks.terraform_files import describe
    from trader.settings import list_fields  # imports pandas

    def option(name: str, parse: object, meaning: str, default: object) -> Option:
        allowed = describe(parse)
        listed = allowed.get("words")
        words = tuple(map(str, listed)) if isinstance(listed, list) else ()
        metavar = "|".join(words) or ("NUMBER" if allowed else "TEXT")
        shown = format_default(default)
        is_path_of_this_machine = name == "PRICE_FILE"
        if shown and "default:" not in meaning and not is_path_of_this_machine:
            meaning = f"{meaning} (default: {shown})"
        return Option(name=name, meaning=meaning, metavar=metavar, words=words, is_list="list" in allowed)

    return [
        option(item.name.upper(), item.metadata["parse"], item.metadata["meaning"], item.default)
        for item in list_fields()
        if item.name.upper() not in SECRETS
    ]


def format_default(default: object) -> str:
    """Return a setting's default as it would be written; empty if it is none."""
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    return f"{default:.10g}" if isinstance(default, float) else str(default)


# --- the index of all commands ---------------------------------------------------------------------------------------


@cache
def index() -> dict[str, list[tuple[str, str]]]:
    """Return each group's commands with their summaries, in order, from commands/index.txt."""
    groups: dict[str, list[tuple[str, str]]] = {}
    group = ""
    for line in resources.files("scripts.commands").joinpath("index.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("  "):
            name, _, summary = line.strip().partition(" ")
            groups[group].append((name, summary.strip()))
        elif line:
            group = line
            groups[group] = []
    return groups


def names() -> Sequence[str]:
    """Return the names of all commands, in the order of the index."""
    return [name for commands in index().values() for name, _ in commands]


def find_summary(name: str) -> str:
    """Return what the index says of a command."""
    return next(text for commands in index().values() for each, text in commands if each == name)


def find(name: str) -> Command:
    """Return a command by its name. Raises KeyError if there is none."""
    if name not in names():
        raise KeyError(name)
    module = import_module(f"scripts.commands.{name.replace('-', '_')}")
    made = module.COMMAND
    assert isinstance(made, Command)
    return made


# --- the application -------------------------------------------------------------------------------------------------


class _Text(click.ParamType[str]):
    """The text of an option. It must not be empty, and a switch is 1 or 0; the command's own code checks the rest."""

    name = "text"

    def __init__(self, option: Option) -> None:
        self.option = option

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ANN401 as Click declares it
        if not str(value).strip():
            self.fail(f"{self.option.flag} is given without a value; leave it out for the default", param, ctx)
        if self.option.is_on_or_off and value not in ON | OFF:
            self.fail(f"{value!r}: must be 1 or 0", param, ctx)
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        head, comma, word = incomplete.rpartition(",") if self.option.is_list else ("", "", incomplete)
        if self.option.metavar in {"FILE", "FOLDER"} or self.option.name.endswith("_FILE"):
            return [CompletionItem(incomplete, type="file" if self.option.metavar != "FOLDER" else "dir")]
        return [CompletionItem(head + comma + each) for each in self.option.words if each.startswith(word)]


def parameter(option: Option) -> click.Option:
    """Return Click's parameter for an option."""
    if option.is_flag:
        return click.Option([option.flag, option.name], is_flag=True, default=None, help=option.meaning)
    return click.Option([option.flag, option.name], type=_Text(option), metavar=option.metavar, help=option.meaning)


class _Command(click.Command):
    """A command that refuses an option given twice, and whose help shows its own options before the bot's settings."""

    made: Command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if value := os.environ.get("HELP"):  # as it would be in HELP=1 given to make
            for problem in check_help(value):
                ctx.fail(problem)
            args = ["--help"]
        args = list(self._take_rule_parameters(args, ctx))
        try:
            _, _, order = self.make_parser(ctx).parse_args(list(args))
        except click.NoSuchOption as error:
            name = error.option_name.strip("-").upper()
            if name in SECRETS:
                ctx.fail(f"{name} {NOT_TAKEN}")
            guess = nearest(error.option_name, [each.flag for each in self.made.all_options()])
            raise click.NoSuchOption(error.option_name, possibilities=[guess] if guess else None, ctx=ctx) from None
        for param, times in Counter(order).items():
            if times > 1:
                ctx.fail(f"{param.opts[0]} is given {times} times; give it once")
        return super().parse_args(ctx, args)

    def _take_rule_parameters(self, args: Sequence[str], ctx: click.Context) -> Iterator[str]:
        """Set the variables of options such as --rule-days=20, and yield the other arguments."""
        if not self.made.takes_rules:
            yield from args
            return
        coming = iter(args)
        for each in coming:
            flag, equals, value = each.partition("=")
            name = flag.removeprefix("--").upper().replace("-", "_")
            if not flag.startswith("--rule-") or not RULE_PARAMETER.fullmatch(name):
                yield each
                continue
            text = value if equals else next(coming, "")
            if not text.strip():
                ctx.fail(f"{flag} is given without a value; leave it out for the default")
            os.environ[name] = text

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        found = self.get_help_option(ctx)
        own = {each.name for each in self.made.options} | ({found.name} if found else set())
        rows = {param.name: row for param in self.get_params(ctx) if (row := param.get_help_record(ctx))}
        with formatter.section("Options"):
            formatter.write_dl([row for name, row in rows.items() if name in own])
        if settings := [row for name, row in rows.items() if name not in own]:
            with formatter.section("Settings of the bot"):
                formatter.write_dl(settings)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.made.all_options():
            example = next(iter(self.made.all_options()))
            value = "1" if example.is_flag else "..."
            formatter.write_paragraph()
            formatter.write_text(
                f"Each option is also a variable, in the environment or given to make: "
                f"make {ctx.info_name} {example.name}={value}"
            )


def click_command(name: str) -> click.Command:
    """Return Click's command for one of ours. Calling it sets the variables and then runs the command's main()."""
    made = find(name)

    def call(**values: str | bool | None) -> None:
        if problems := list(check_environment(os.environ, name, [key for key, value in values.items() if value])):
            click.get_current_context().fail("\n".join(problems))
        os.environ.update({key: "1" if value is True else str(value) for key, value in values.items() if value})
        if made.needs_clone:
            require_clone(name)
        module, _, function = made.main.partition(":")
        _run(getattr(import_module(module), function))

    command = _Command(
        name,
        callback=call,
        params=[parameter(option) for option in made.all_options()],
        help=f"{find_summary(name)}.\n\n{made.description}",
        context_settings={"help_option_names": ["--help"], "max_content_width": 104},
    )
    command.made = made
    return command


def _run(main: Callable[[], None]) -> None:
    """Call the function of a command, and let garbage be searched for again: not in what is imported."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
    main()


def check_help(value: str) -> Iterator[str]:
    """Yield the problem of a value of HELP, the variable that stands for --help."""
    if value not in ON:
        yield f"HELP={value}: must be 1, which shows what the command takes"


def check_environment(env: Mapping[str, str], name: str, given: Sequence[str]) -> Iterator[str]:
    """Yield the problems of environment variables that a command would ignore, or take for something else.

    These are names that misspell one of its options, and values of flags and switches that are neither on nor off.
    `given` are the options on the command line, which win over the environment.
    """
    from trader import settings  # imports pandas

    options = {option.name: option for option in find(name).all_options()}
    known = {*options, *settings.variables(), *(each.name for _, _, made in iterate_all() for each in made.options)}
    for variable, value in env.items():
        option = options.get(variable)
        if variable not in known:
            if guess := settings.nearest(variable, options):
                yield f"{variable} in the environment is not a variable of {name}; did you mean {guess}?"
        elif option and option.is_on_or_off and variable not in {*given, *OF_OTHERS} and value not in {"", *ON, *OFF}:
            yield f"{variable}={value} in the environment: must be 1 or 0"


def require_clone(name: str) -> None:
    """End the program if the repository's files are not there, as after pip install."""
    from scripts import ROOT

    if not (ROOT / "Makefile").is_file():
        console.ERR.print(
            f"{PROGRAM} {name} works on the files of the repository: run it in a clone, as make {name}",
            style="red",
            soft_wrap=True,
        )
        raise SystemExit(console.COULD_NOT)


class Application(click.Group):
    """All commands, by group; a command's module is imported when the command is called or asked for help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of the index."""
        return list(names())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name; None if there is none."""
        return click_command(cmd_name) if cmd_name in names() else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that is called. Raises UsageError, with the nearest name, if there is none."""
        if args[0] not in names() and not re.match("-", args[0]):
            guess = nearest(args[0], names())
            hint = f"; did you mean {guess}?" if guess else f"; {PROGRAM} --help lists all commands"
            ctx.fail(f"{args[0]!r} is not a command{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands by group."""
        for group, commands in index().items():
            with formatter.section(group):
                formatter.write_dl(commands)


def application() -> Application:
    """Return the command-line application."""
    try:
        number = version(PROGRAM)
    except PackageNotFoundError:
        number = "of this clone"
    made = Application(
        PROGRAM,
        help="A stock-trading bot built on Facebook's Prophet.",
        context_settings={"help_option_names": ["--help"], "max_content_width": 104},
        no_args_is_help=True,
    )
    return click.version_option(number, prog_name=PROGRAM)(made)


def run_program(words: Sequence[str] | None = None) -> None:
    """Run the command line that `words` are, or the process was given, and raise SystemExit: nothing comes after it."""
    try:
        application()(words, prog_name=PROGRAM)
    finally:
        gc.freeze()  # otherwise Python looks for garbage before it ends, which takes seconds after a long backtest


def nearest(name: str, known: Sequence[str]) -> str | None:
    """Return the known name that is most like `name`, in whatever case; None if none is like it."""
    import difflib

    by_key = {_key(each): each for each in known}
    found = difflib.get_close_matches(_key(name), by_key, n=1, cutoff=0.7)
    begun = [each for key, each in by_key.items() if len(_key(name)) >= 3 and key.startswith(_key(name))]
    return next((by_key[each] for each in found), next(iter(begun), None))


def _key(name: str) -> str:
    return name.strip("-").lower().replace("-", "_")


def iterate_all() -> Iterator[tuple[str, str, Command]]:
    """Yield each command's name, summary and declaration, for the reference."""
    for commands in index().values():
        for name, summary in commands:
            yield name, summary, find(name)
