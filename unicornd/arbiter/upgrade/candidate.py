"""What is to be executed in an upgrade: asked for its version before anything is done.

`examine` runs in a process of its own (`enquiries`): a program may hang, or lie on a file system that does. The path is
kept as it was said; a symbolic link in it is followed when it is executed.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from unicornd import __version__
from unicornd.dataclass import dataclass
from unicornd.errors import UnicorndError
from unicornd.escaping import one_line, shortened

if TYPE_CHECKING:
    from collections.abc import Mapping

PATIENCE = 20.0
"""Seconds that a program may take to say its version."""
MAX_SAID = 200
"""Characters of what a program says that are told."""
AS_MODULE = ("-Pm", "unicornd")
"""Behind an interpreter; -P: the working directory may be anybody's, and Python would look for unicornd there first."""
_IS_PYTHON = re.compile(r"Python \d")
_IS_UNICORND = re.compile(r"unicornd (?P<version>\S+)(?: \(Python (?P<python>[^\s,]+), (?P<prefix>.+)\))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A unicornd that can be executed.

    Attributes:
        program: the command without unicornd's arguments.
        unicornd: its version; python: of its interpreter; prefix: the folder of its environment (`sys.prefix`). The
            last two are empty if it does not say them.
    """

    program: tuple[str, ...]
    unicornd: str
    python: str
    prefix: str

    def __str__(self) -> str:
        """Return versions and place in words."""
        python = f", Python {self.python} in {self.prefix}" if self.python else ""
        return f"unicornd {self.unicornd}{python}"


def running(program: tuple[str, ...]) -> Candidate:
    """Return what this process is."""
    return Candidate(program=program, unicornd=__version__, python=python_version(), prefix=sys.prefix)


def python_version() -> str:
    """Return the version of this interpreter: `3.13.1`."""
    return ".".join(map(str, sys.version_info[:3]))


def version_line() -> str:
    """Return what `unicornd --version` says, which `examine` understands."""
    return f"unicornd {__version__} (Python {python_version()}, {sys.prefix})"


def examine(
    program: tuple[str, ...], *, is_named: bool, folder: str, environ: Mapping[str, str]
) -> Candidate:
    """Ask a program for its version.

    Args:
        program: what the fleet was started with, or the path that somebody has named.
        is_named: it is the latter: an interpreter, or the program `unicornd`.
        folder: where it is executed.
        environ: environment variables.

    Raises:
        UnicorndError: it cannot be executed, or is neither.
    """
    with suppress(OSError):  # it may be gone
        os.chdir(folder)
    if is_named:
        if Path(program[0]).is_dir():
            hint = f"a program in it is meant: {program[0]}/bin/unicornd or {program[0]}/bin/python"
            raise UnicorndError(f"{program[0]} is a folder", hint=hint)
        if _IS_PYTHON.match(_said(program, environ)):
            program = (*program, *AS_MODULE)
    said = _said(program, environ)
    found = _IS_UNICORND.fullmatch(said)
    if found is None:
        raise UnicorndError(
            f"{program[0]} is not unicornd: asked for its version, it says {shortened(one_line(said), MAX_SAID)!r}",
            hint="--executable names an interpreter that has unicornd, or the program unicornd",
        )
    return Candidate(
        program=program,
        unicornd=found["version"],
        python=found["python"] or "",
        prefix=found["prefix"] or "",
    )


def _said(program: tuple[str, ...], environ: Mapping[str, str]) -> str:
    """Return the line that a program says of its version.

    Raises:
        UnicorndError: it does not.
    """
    import subprocess  # noqa: PLC0415 - not in the arbiter

    try:
        done = subprocess.run(  # noqa: S603 - whoever may name it may execute anything as this user
            [*program, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False,
            env={**environ}, encoding="utf-8", errors="replace",
        )  # fmt: skip
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UnicorndError(
            f"{program[0]}, or the interpreter that it names, cannot be executed: {why}"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise UnicorndError(f"{program[0]} has not said its version within {PATIENCE:g} s") from error
    if done.returncode:
        reason = (done.stderr.strip() or done.stdout.strip() or "it does not say why").splitlines()[-1]
        raise UnicorndError(
            f"{' '.join(program)} --version has failed (exit code {done.returncode}): "
            f"{shortened(one_line(reason), MAX_SAID)}"
        )
    return done.stdout.strip()


def moved(environ: Mapping[str, str], *, old: str, new: str, is_virtual: bool) -> dict[str, str]:
    """Return environment variables for another virtual environment: what names the old one names the new one.

    Only where the fleet was started in an activated one: `VIRTUAL_ENV`, and its `bin` in `PATH`.

    Args:
        environ: at the start.
        old: `sys.prefix` of what runs.
        new: of what will run.
        is_virtual: whether the new one is a virtual environment, too.
    """
    if environ.get("VIRTUAL_ENV") != old or not new or old == new:
        return dict(environ)
    found = {name: value for name, value in environ.items() if name != "VIRTUAL_ENV"}
    if is_virtual:
        found["VIRTUAL_ENV"] = new
    places = [
        f"{new}/bin" if place == f"{old}/bin" else place
        for place in environ.get("PATH", "").split(os.pathsep)
        if is_virtual or place != f"{old}/bin"
    ]
    if "PATH" in environ:
        found["PATH"] = os.pathsep.join(places)
    return found
