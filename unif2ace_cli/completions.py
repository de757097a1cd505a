"""Completion scripts for bash, zsh and fish, generated from the app; they complete without starting Python.

python -m unif2ace_cli.completions completions/      writes unif2ace.bash, _unif2ace and unif2ace.fish
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from unif2ace_cli import options
from unif2ace_cli.app import COMMANDS, load_command

PROGRAM = "unif2ace"
HEADER = f"{PROGRAM} completion; written by python -m unif2ace_cli.completions, do not edit"
VALUES = {
    "--device": tuple(device.value for device in options.Device),
    "--sampler": options.SAMPLERS,
    "--guidance-schedule": options.GUIDANCE_SCHEDULES,
    "--preset": options.PRESETS,
    "--bits": tuple(bits.value for bits in options.Bits),
    "--quantize": tuple(scheme.value for scheme in options.Quantize),
    "--split": tuple(split.value for split in options.Split),
    "--dtype": tuple(dtype.value for dtype in options.Dtype),
}
FILES = {
    "--output",
    "--prompts",
    "--requests",
    "--model",
    "--codec",
    "--tokenizer",
    "--weights",
    "--mapping",
    "--sheet",
}
FOLDERS = {"--data", "--judge"}
ARGUMENTS = {
    "train": tuple(recipe.value for recipe in options.Recipe),
    "eval": (*options.SUITES, options.ABLATION),
    "quantize": ("mini",),
    "data": (
        "import",
        "align",
        "annotate",
        "caption",
        "questions",
        "encode",
        "stats",
        "check",
        "calibrate",
        "export",
    ),
    "model": ("convert", "expert"),
    "completion": ("bash", "zsh", "fish"),
}
TAKES_FILES = ("ask", "describe", "quantize", "data", "model")


@dataclass(frozen=True)
class Flag:
    """An option: its spellings, what it says about itself, and what its value may be."""

    names: tuple[str, ...]
    help: str
    takes_value: bool
    values: tuple[str, ...] = ()
    files: bool = False
    folders: bool = False


class Words(NamedTuple):
    """A command: its name, its line in the overview, its options and the words its arguments may be."""

    name: str
    summary: str
    flags: tuple[Flag, ...]
    arguments: tuple[str, ...]
    files: bool


def plain(text: str) -> str:
    """The first sentence of a help text, without markup and quotes."""
    text = re.sub(r"\[/?\w+\]", "", " ".join(text.split()))
    text = re.split(r"(?<=[^.])\.(?: |$)|[;:] ", text)[0].rstrip(" .")
    return re.sub(r"[\"'`\[\]:$\\]", "", text)


def read_flag(param: Any) -> list[Flag]:
    """The option(s) that a parameter stands for; --x/--no-x are two."""
    takes_value = not param.is_flag
    name = max(param.opts, key=len)
    first = Flag(
        tuple(param.opts),
        plain(param.help or ""),
        takes_value,
        VALUES.get(name, ()),
        name in FILES,
        name in FOLDERS,
    )
    second = [Flag(tuple(param.secondary_opts), first.help, False)] if param.secondary_opts else []
    return [first, *second]


def params_of(name: str) -> list[Any]:
    """The parameters of a command, or of all commands in a group."""
    command = load_command(name)
    return [param for each in getattr(command, "commands", {name: command}).values() for param in each.params]


def read_command(name: str) -> Words:
    """Everything to complete after `unif2ace NAME`."""
    flags = [
        flag
        for param in params_of(name)
        if param.param_type_name == "option" and not param.hidden
        for flag in read_flag(param)
    ]
    flags.append(Flag(("--help", "-h"), "Show this message and exit", False))
    arguments = ARGUMENTS.get(name, ())
    return Words(name, plain(COMMANDS[name].summary), tuple(flags), arguments, name in TAKES_FILES)


def read_app() -> list[Words]:
    """All commands, hidden ones too (they are worth completing, not advertising)."""
    return [read_command(name) for name in COMMANDS]


def flag_words(command: Words) -> str:
    """All spellings of a command's options."""
    return " ".join(name for flag in command.flags for name in flag.names)


# -------------------------------------------------------------------------------------------------- bash


def bash_script() -> str:
    """For bash, with or without the bash-completion package."""
    commands = read_app()
    shown = " ".join(each.name for each in commands if not COMMANDS[each.name].hidden)
    return BASH.format(
        header=HEADER,
        commands=shown,
        values=bash_values(commands),
        words="\n".join(bash_words(each) for each in commands),
    )


def bash_values(commands: list[Words]) -> str:
    """The cases of `$command:$previous`: what the value of an option may be."""
    lines = []
    for command in commands:
        for flag in command.flags:
            if not flag.takes_value:
                continue
            pattern = "|".join(f"{command.name}:{name}" for name in flag.names)
            if flag.values:
                action = f'COMPREPLY=($(compgen -W "{" ".join(flag.values)}" -- "$current"))'
            elif flag.files or flag.folders:
                action = f"_unif2ace_files {'-d' if flag.folders else '-f'}"
            else:
                action = ":"
            lines.append(f"        {pattern}) {action}; return ;;")
    return "\n".join(lines)


def bash_words(command: Words) -> str:
    """The case of one command: its options and the words of its arguments."""
    return (
        f'        {command.name}) flags="{flag_words(command)}"; words="{" ".join(command.arguments)}"; '
        f"files={'yes' if command.files else 'no'} ;;"
    )


BASH = """# {header}
# Use: source unif2ace.bash, or copy it to ~/.local/share/bash-completion/completions/unif2ace

_unif2ace_files() {{
    compopt -o filenames 2>/dev/null
    local entry
    while IFS= read -r entry; do COMPREPLY+=("$entry"); done < <(compgen "$1" -- "$current")
}}

_unif2ace() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD-1]}}"
    local command="" flags="" words="" files=no index
    COMPREPLY=()
    for ((index = 1; index < COMP_CWORD; index++)); do
        case "${{COMP_WORDS[index]}}" in
            -*) ;;
            *) command="${{COMP_WORDS[index]}}"; break ;;
        esac
    done
    if [[ -z $command ]]; then
        COMPREPLY=($(compgen -W "{commands} --help --version --debug" -- "$current"))
        return
    fi
    case "$command:$previous" in
{values}
    esac
    case "$command" in
{words}
    esac
    if [[ $current == -* ]]; then
        COMPREPLY=($(compgen -W "$flags" -- "$current"))
        return
    fi
    [[ -n $words ]] && COMPREPLY=($(compgen -W "$words" -- "$current"))
    [[ $files == yes ]] && _unif2ace_files -f
}}

complete -F _unif2ace unif2ace
"""


# --------------------------------------------------------------------------------------------------- zsh


def zsh_script() -> str:
    """For zsh, as a function file named _unif2ace."""
    commands = read_app()
    listed = "\n".join(f"        '{each.name}:{each.summary}'" for each in commands if not COMMANDS[each.name].hidden)
    return ZSH.format(header=HEADER, commands=listed, cases="\n".join(zsh_case(each) for each in commands))


def zsh_action(flag: Flag) -> str:
    """What the value of an option may be, in the words of _arguments."""
    if flag.values:
        return f"({' '.join(flag.values)})"
    return "_files -/" if flag.folders else "_files" if flag.files else " "


def zsh_flag(flag: Flag) -> str:
    """One specification of _arguments."""
    value = f":{max(flag.names, key=len).lstrip('-')}:{zsh_action(flag)}" if flag.takes_value else ""
    if len(flag.names) == 1:
        return f"'{flag.names[0]}[{flag.help}]{value}'"
    return f"'({' '.join(flag.names)})'{{{','.join(flag.names)}}}'[{flag.help}]{value}'"


def zsh_case(command: Words) -> str:
    """The _arguments call of one command."""
    specs = [zsh_flag(flag) for flag in command.flags]
    words = f"({' '.join(command.arguments)})"
    if command.files and command.arguments:
        specs.append(f"""'1:argument:{{_alternative "words:word:{words}" "files:file:_files"}}'""")
    elif command.arguments:
        specs.append(f"'{'*' if command.name == 'eval' else '1'}:argument:{words}'")
    elif command.files:
        specs.append("'*:file:_files'")
    lines = " \\\n".join(f"                {spec}" for spec in specs)
    return f"            {command.name})\n                _arguments -s \\\n{lines}\n                ;;"


ZSH = """#compdef unif2ace
# {header}
# Use: copy this file, named _unif2ace, to a folder in $fpath

_unif2ace() {{
    local curcontext="$curcontext" state line
    local -a commands
    commands=(
{commands}
    )
    _arguments -C \\
        '--help[Show this message and exit]' \\
        '--version[Show the version and exit]' \\
        '--debug[Show the traceback of an error]' \\
        '1:command:->command' \\
        '*::argument:->argument'
    case $state in
        command) _describe -t commands 'command' commands ;;
        argument)
            case $line[1] in
{cases}
            esac
            ;;
    esac
}}

if [[ $funcstack[1] == _unif2ace ]]; then
    _unif2ace "$@"
else
    compdef _unif2ace unif2ace
fi
"""


# -------------------------------------------------------------------------------------------------- fish


def fish_script() -> str:
    """For fish."""
    commands = read_app()
    first = f"complete -c {PROGRAM} -n __fish_use_subcommand"
    lines = [
        f"# {HEADER}",
        "# Use: copy it to ~/.config/fish/completions/unif2ace.fish",
        "",
        f"complete -c {PROGRAM} -f",
    ]
    for name, text in (
        ("help", "Show this message and exit"),
        ("version", "Show the version and exit"),
        ("debug", "Show the traceback of an error"),
    ):
        lines.append(f"{first} -l {name} -d '{text}'")
    for command in commands:
        if not COMMANDS[command.name].hidden:
            lines.append(f"{first} -a {command.name} -d '{command.summary}'")
    for command in commands:
        lines += ["", *fish_command(command)]
    return "\n".join(lines) + "\n"


def fish_command(command: Words) -> list[str]:
    """The lines of one command."""
    start = f"complete -c {PROGRAM} -n '__fish_seen_subcommand_from {command.name}'"
    lines = [f"{start} -a '{' '.join(command.arguments)}'"] if command.arguments else []
    lines += [f"{start} -F"] if command.files else []
    return lines + [f"{start} {fish_flag(flag)}" for flag in command.flags]


def fish_flag(flag: Flag) -> str:
    """The words of one option."""
    parts = [f"-{'l' if name.startswith('--') else 's'} {name.lstrip('-')}" for name in flag.names]
    if flag.values:
        parts.append(f"-x -a '{' '.join(flag.values)}'")
    elif flag.takes_value:
        folders = "-x -a '(__fish_complete_directories)'"
        parts.append(folders if flag.folders else "-r -F" if flag.files else "-x")
    return " ".join([*parts, f"-d '{flag.help}'"])


class Shell(NamedTuple):
    """A shell's file name in completions/ and what writes it."""

    file: str
    script: Callable[[], str]


SHELLS = {
    "bash": Shell("unif2ace.bash", bash_script),
    "zsh": Shell("_unif2ace", zsh_script),
    "fish": Shell("unif2ace.fish", fish_script),
}


def main(folder: Path) -> None:
    """Write all scripts."""
    folder.mkdir(parents=True, exist_ok=True)
    for shell in SHELLS.values():
        (folder / shell.file).write_text(shell.script(), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "completions"))
