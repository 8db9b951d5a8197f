"""`unicornctl completion bash|zsh|fish`: print what has the shell complete our command lines.

Runs in the command's process. What the scripts ask is answered by `cli.complete`.
"""

from __future__ import annotations

import sys
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated

import typer

from unicornd.cli.complete import SHELLS
from unicornd.cli.session import session_of
from unicornd.control.client import ControlError
from unicornd.errors import CtlExit

if TYPE_CHECKING:
    from collections.abc import Mapping

app = typer.Typer()

SCRIPTS: Mapping[str, str] = {"bash": "unicornctl.bash", "zsh": "_unicornctl", "fish": "unicornctl.fish"}
"""Shell → its script, under the name by which the shell loads it by itself."""


@app.command(short_help="Print the completion script for bash, zsh or fish.")
def completion(
    context: typer.Context,
    shell: Annotated[str, typer.Argument(metavar="SHELL", help="bash, zsh or fish")],
) -> int:
    """Print a script that has a shell complete commands, options, slots, instances and settings.

    bash: eval "$(unicornctl completion bash)" in ~/.bashrc. zsh: the same with zsh in ~/.zshrc, after compinit. fish:
    unicornctl completion fish > ~/.config/fish/completions/unicornctl.fish
    """
    if shell not in SHELLS:
        raise ControlError(
            f"there is no completion for {shell}",
            code=CtlExit.USAGE,
            hint=f"there is one for {', '.join(SHELLS)}",
        )
    text = script(shell)
    session = session_of(context)
    if session.is_json:
        session.print_json({"schema": 1, "shell": shell, "script": text})
    else:
        sys.stdout.write(text)
    return CtlExit.DONE


def script(shell: str) -> str:
    """Return the script for a shell."""
    return files("unicornd.cli").joinpath("scripts", SCRIPTS[shell]).read_text(encoding="utf-8")
