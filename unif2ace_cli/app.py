"""The command line: `unif2ace COMMAND ...`. Each command is a module that is imported when it is called.

unif2ace --help          needs neither torch nor any command's code
unif2ace generate ...    imports unif2ace_cli.commands.generate, which imports the core when it runs
"""

from __future__ import annotations

import contextlib
import difflib
import gc
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from unif2ace_cli import __version__, console
from unif2ace_cli.console import UsageError
from unif2ace_core import timing

HELP = "Understand and generate faces with one model."
EPILOG = (
    'Try: unif2ace generate "rosy cheeks, hoop earrings"\n\n'
    "Each command has its own --help. For tab completion: unif2ace completion bash (or zsh, fish)"
)
SETTINGS = {"help_option_names": ["--help", "-h"], "max_content_width": 100}


class Entry(NamedTuple):
    """A command without its code: one line for the overview, and whether the overview shows it."""

    summary: str
    hidden: bool = False


COMMANDS = {
    "generate": Entry("Write faces that a text describes."),
    "ask": Entry("Answer a question about the face in a photo."),
    "describe": Entry("Describe the face in a photo."),
    "train": Entry("Train a part of the model, or the model."),
    "eval": Entry("Measure a model on held-out faces."),
    "quantize": Entry("Make a model smaller: 8 or 4 bits."),
    "data": Entry("Make a data set of faces with captions and questions."),
    "model": Entry("Take over another model's weights."),
    "completion": Entry("Print the completion script of a shell.", hidden=True),
}


class Command(TyperCommand):
    """A command that writes its own usage line, and flags without a type in the help."""

    usage_line = ""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [self.usage_line] if self.usage_line else super().collect_usage_pieces(ctx)

    def get_params(self, ctx: Any) -> list[Any]:
        return without_flag_types(super().get_params(ctx))

    @timing.phase("command line")
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args)


def without_flag_types(params: list[Any]) -> list[Any]:
    """The parameters, their flags without the word <bool> in the help."""
    for param in params:
        if getattr(param, "is_flag", False):
            param.metavar = ""
    return params


def reflow(text: str) -> str:
    """A docstring with each paragraph on one line, so that the help wraps it to the terminal."""
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(text).split("\n\n"))


@timing.phase("command line")
def load_command(name: str) -> Any:
    """The complete command, from `unif2ace_cli.commands.NAME.run`, or the group of those in its `SUBCOMMANDS`."""
    module, entry = importlib.import_module(f"unif2ace_cli.commands.{name}"), COMMANDS[name]
    if not hasattr(module, "SUBCOMMANDS"):
        return build_command(name, module.run, module.USAGE, entry)
    commands = {each: build_command(each, *parts) for each, parts in module.SUBCOMMANDS.items()}
    return SubGroup(
        name=name,
        commands=commands,
        help=reflow(module.run.__doc__),
        short_help=entry.summary,
        hidden=entry.hidden,
        rich_markup_mode="rich",
        context_settings=SETTINGS,
    )


def build_command(name: str, run: Callable[..., None], usage: str, entry: Entry) -> Any:
    """A command from its function; `usage` is what stands behind its name."""
    single = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
    single.command(
        name,
        cls=Command,
        help=reflow(run.__doc__ or ""),
        short_help=entry.summary,
        context_settings=SETTINGS,
        hidden=entry.hidden,
    )(run)
    command: Any = typer.main.get_command(single)
    command.usage_line = usage
    return command


class LazyGroup(TyperGroup):
    """A group that knows the names of its commands and imports a command when it is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return load_command(cmd_name) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise UsageError(unknown_command(args[0], visible_commands()))
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The overview, from the one-line summaries alone."""
        self.overview().format_help(ctx, formatter)

    def overview(self) -> TyperGroup:
        """This group with empty commands in place of the real ones."""
        commands: Any = {
            name: TyperCommand(
                name,
                short_help=entry.summary,
                help=entry.summary,
                hidden=entry.hidden,
                rich_markup_mode="rich",
            )
            for name, entry in COMMANDS.items()
        }
        return OrderedGroup(
            name=self.name,
            commands=commands,
            help=self.help,
            epilog=self.epilog,
            params=self.params,
            rich_markup_mode="rich",
            context_settings=SETTINGS,
        )


class OrderedGroup(TyperGroup):
    """Lists its commands in the order they were given."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)

    def get_params(self, ctx: Any) -> list[Any]:
        return without_flag_types(super().get_params(ctx))


class SubGroup(OrderedGroup):
    """The commands behind one word, such as `unif2ace model convert`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            names = ", ".join(self.commands)
            raise UsageError(f"{self.name} needs a command: {names}; see 'unif2ace {self.name} --help'")
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            raise UsageError(unknown_command(args[0], list(self.commands)))
        return super().resolve_command(ctx, args)


def visible_commands() -> list[str]:
    """Names of the commands that the overview shows."""
    return [name for name, entry in COMMANDS.items() if not entry.hidden]


def unknown_command(name: str, names: Sequence[str]) -> str:
    """The complaint about a command that is not there, with the one of `names` probably meant."""
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"choose from {', '.join(names)}"
    return f"no command '{name}'; {hint}"


def show_version(value: bool) -> None:
    """Callback of --version."""
    if value:
        print(f"unif2ace {__version__}")
        raise typer.Exit()


app = typer.Typer(
    name="unif2ace",
    cls=LazyGroup,
    help=HELP,
    epilog=EPILOG,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings=SETTINGS,
    invoke_without_command=True,
)


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=show_version, help="Show the version and exit."),
    ] = False,
    debug: Annotated[
        bool,
        typer.Option("--debug", is_eager=True, callback=console.set_debug, help="Show the traceback of an error."),
    ] = False,
) -> None:
    """Understand and generate faces with one model."""
    if ctx.invoked_subcommand is None and not ctx.resilient_parsing:
        text = ctx.get_help()  # rich prints by itself and leaves this empty
        if text:
            print(text)
        raise typer.Exit(console.USAGE)


def execute(args: Sequence[str]) -> int:
    """Parse and run; gives the exit code. Exceptions other than the parser's Exit pass through."""
    try:
        with timing.phase("command line"):
            group: Any = typer.main.get_command(app)
            made = group.make_context("unif2ace", list(args))
        with made as context:
            code = group.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    return code if isinstance(code, int) else console.OK


def main(args: Sequence[str] | None = None) -> int:
    """Entry point of the console script; gives the exit code (see unif2ace_cli.console)."""
    timing.restart(since_start=args is None)
    console.reset()
    try:
        code = execute(sys.argv[1:] if args is None else args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader, `head` for example, has gone: nothing left to say to it
        silence_stdout()
        return console.FAILED
    except (Exception, KeyboardInterrupt) as error:
        return console.report_exception(error)
    finally:
        if args is None:  # the process ends: without a last look through all that torch made it does so sooner
            gc.freeze()


def silence_stdout() -> None:
    """Send the rest of stdout nowhere, so that the interpreter's last flush does not complain."""
    with contextlib.suppress(OSError, ValueError):  # stdout need not be a real file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
