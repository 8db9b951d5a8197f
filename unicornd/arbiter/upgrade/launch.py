"""How this unicornd was started, so that it, or another release of it, can be started in the same way.

Used by the arbiter: noted at the start, executed at an upgrade.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from unicornd.config.instance import working_folder
from unicornd.dataclass import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchCommand:
    """How this unicornd was started, so that it can be started again.

    Attributes:
        program: what is executed: unicornd itself, or an interpreter and what it is to run.
        arguments: of unicornd.
        folder: the working directory, by the name under which it was entered.
        environ: environment variables.
    """

    program: tuple[str, ...]
    arguments: tuple[str, ...]
    folder: str
    environ: Mapping[str, str]

    @classmethod
    def of(
        cls, orig_argv: list[str], executable: str, *, arguments: list[str], environ: Mapping[str, str]
    ) -> LaunchCommand:
        """Return how this process was started.

        A script is executed itself, not by the interpreter that runs it now: a new release may have another one.

        Args:
            orig_argv: `sys.orig_argv`.
            executable: `sys.executable`.
            arguments: `sys.argv` without its first: the end of `orig_argv`.
            environ: at the start.
        """
        folder = str(working_folder())  # a symbolic link may lead to the next release by now
        words = orig_argv[1 : len(orig_argv) - len(arguments)]
        script = words[0] if words else ""
        program: tuple[str, ...] = (executable, *words)
        if script and not script.startswith("-") and os.access(script, os.X_OK):
            program = (os.path.join(folder, script), *words[1:])  # noqa: PTH118 - as `folder`
        return cls(program=program, arguments=tuple(arguments), folder=folder, environ=environ)

    @property
    def words(self) -> tuple[str, ...]:
        """The program and its arguments."""
        return (*self.program, *self.arguments)
