"""`unif2ace completion bash`: the completion script of a shell, on stdout."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from unif2ace_cli import options

USAGE = "SHELL"


class Shell(str, Enum):
    """Shells with a completion script."""

    bash = "bash"
    zsh = "zsh"
    fish = "fish"


def run(
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", show_default=False, help="bash, zsh or fish.")],
    debug: options.DebugOption = False,
) -> None:
    """Print the completion script of a shell.

    [dim]unif2ace completion bash > ~/.local/share/bash-completion/completions/unif2ace[/dim]
    """
    from unif2ace_cli.completions import SHELLS

    print(SHELLS[shell.value].script(), end="")
