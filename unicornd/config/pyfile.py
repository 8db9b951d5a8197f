"""A gunicorn.conf.py as values: what it sets, on which line, and what of that depends on the environment.

The file is run in a process of its own (`config.evaluate`), so the arbiter imports nothing of the application; its
source is parsed here, for the lines.
"""

from __future__ import annotations

import ast
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from unicornd.config.instance import FILE_PREFIX, MODULE_PREFIX
from unicornd.dataclass import dataclass, field
from unicornd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PATIENCE = 30.0
"""Seconds for a configuration file; an arbiter that reloads waits so long at most."""

_ENVIRONMENT = frozenset({"environ", "environb", "getenv"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What the text of a file says about its names.

    Attributes:
        lines: of the last statement that sets a name.
        used: names that the file itself reads.
        environmental: names whose value depends on environment variables.
        path_line: of the first statement that mentions `sys.path`, or None.
    """

    lines: Mapping[str, int]
    used: frozenset[str]
    environmental: frozenset[str]
    path_line: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """An environment variable that a file has changed.

    Attributes:
        value: None if it was removed.
        line: where, if that can be told.
        is_direct: the file itself has set it; else code that it calls, such as one that reads a .env file.
    """

    name: str
    value: str | None
    line: int | None
    is_direct: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """What a file has done beside setting names.

    Attributes:
        environ: environment variables.
        first: folders that it has put in front of the import path.
        last: folders that it has put behind it.
        others: what else it has changed, each in a few words; it cannot be carried into another process.
    """

    environ: tuple[Variable, ...] = ()
    first: tuple[str, ...] = ()
    last: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonFile:
    """A file that has been run.

    Attributes:
        shown: the file as a person would name it.
        reference: what an import string says for it: an absolute path, or a module.
        values: name → `{"plain": …}`, `{"callable": …}` or `{"other": …}`, see `config.evaluate`.
        effects: what it has done besides.
    """

    shown: str
    reference: str
    values: Mapping[str, Mapping[str, Any]]
    source: Source
    effects: Effects = field(default_factory=Effects)

    def place(self, name: str) -> str:
        """Return `gunicorn.conf.py:12`, or the file alone where the line is not known."""
        return self.at(self.source.lines.get(name))

    def at(self, line: int | None) -> str:
        """Return `gunicorn.conf.py:12`, or the file alone."""
        return f"{self.shown}:{line}" if line is not None else self.shown


def run_python(
    file: Path, *, folder: Path, environ: Mapping[str, str], shown: str, patience: float = PATIENCE
) -> PythonFile:
    """Run a file, and return what it sets.

    Args:
        file: a path, `file:PATH` or `python:MODULE`.
        folder: the working directory of the run, and where imports are looked for first.
        environ: its environment.
        shown: the file as a person would name it.
        patience: seconds until it is stopped.

    Raises:
        ConfigError: it cannot be read, or it raises; with its line.
    """
    what = str(file)
    if not what.startswith(MODULE_PREFIX):
        what = os.path.normpath(folder / what.removeprefix(FILE_PREFIX))
        _read(Path(what), shown)
    report = _run(what, folder=folder, environ=environ, shown=shown, patience=patience)
    if (error := report["error"]) is not None:
        place = f"{shown}:{error['line']}" if error["line"] else shown
        raise ConfigError(
            f"{place}: {error['message']}",
            hint=_hint(error["message"]),
            detail=error["detail"],
        )
    text = _read(Path(report["file"]), shown)
    reference = what.removeprefix(MODULE_PREFIX)
    return PythonFile(
        shown=shown,
        reference=reference,
        values=report["values"],
        source=source_of(text),
        effects=_effects(report["effects"]),
    )


def _effects(told: Mapping[str, Any]) -> Effects:
    variables = tuple(Variable(**each) for each in told["environ"])
    return Effects(
        environ=variables,
        first=tuple(told["first"]),
        last=tuple(told["last"]),
        others=tuple(told["others"]),
    )


def _hint(message: str) -> str:
    if message.startswith("ModuleNotFoundError: No module named 'gunicorn"):
        return "leave gunicorn installed beside unicornd; a logger class may inherit from unicornd.observe.logger.Logger"
    if message.startswith("ModuleNotFoundError"):
        return f"install it where unicornd is installed: {sys.prefix}"
    return "the file is run as Python, as gunicorn does"


def _run(
    what: str, *, folder: Path, environ: Mapping[str, str], shown: str, patience: float
) -> dict[str, Any]:
    import subprocess  # noqa: PLC0415 - brings as much as half the configuration; most files are TOML

    # -P: nothing of the working directory may take the place of a module that we import.
    program = "import sys; sys.path.append(sys.argv[1]); from unicornd.config.evaluate import main; main(sys.argv[2])"
    package = str(Path(__file__).parents[2])
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter; the file is the operator's own
            [sys.executable, "-P", "-c", program, package, what],
            cwd=folder,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=patience,
            check=False,
        )
        report: dict[str, Any] = json.loads(done.stdout)
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"{shown}: still running after {patience:.0f} s; it was stopped") from error
    except OSError as error:
        raise ConfigError(f"{shown}: cannot be run: {error}") from error
    except ValueError as error:
        raise ConfigError(f"{shown}: it ended the interpreter") from error
    return report


def _read(file: Path, shown: str) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"cannot read {shown}: {error.strerror}", hint="check the path and its permissions"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{shown}: not UTF-8 text at byte {error.start}") from error


def source_of(text: str) -> Source:
    """Read the lines and dependencies of a valid Python source."""
    tree = ast.parse(text)
    lines: dict[str, int] = {}
    tainted: set[str] = set()
    for names, node, value in _bindings(tree.body, tests=()):
        lines.update(dict.fromkeys(names, node.lineno))
        mentioned = _mentioned(value)
        if mentioned & (_ENVIRONMENT | tainted):
            tainted.update(names)
    used = {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    path_lines = [node.lineno for node in ast.walk(tree) if _is_path(node)]
    return Source(
        lines=lines,
        used=frozenset(used),
        environmental=frozenset(tainted),
        path_line=min(path_lines, default=None),
    )


def _is_path(node: ast.AST) -> TypeGuard[ast.Attribute]:
    """Whether it is `sys.path`."""
    return (
        isinstance(node, ast.Attribute)
        and node.attr == "path"
        and isinstance(node.value, ast.Name)
        and node.value.id == "sys"
    )


def _bindings(
    body: list[ast.stmt], *, tests: tuple[ast.AST, ...]
) -> Iterator[tuple[list[str], ast.stmt, list[ast.AST]]]:
    """Yield the names that module-level statements set, the statement, and what the value depends on."""
    for node in body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield [name], node, [node]
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                yield [alias.asname or alias.name.partition(".")[0] for alias in aliases], node, []
            case ast.Assign(targets=targets, value=value):
                yield [name for target in targets for name in _targets(target)], node, [value, *tests]
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                yield _targets(target), node, [value, *tests]
            case ast.AugAssign(target=target, value=value):
                yield _targets(target), node, [target, value, *tests]
            case _:
                inner = tuple(
                    part
                    for part in (getattr(node, "test", None), getattr(node, "iter", None))
                    if part is not None
                )
                for name in ("body", "orelse", "finalbody"):
                    yield from _bindings(getattr(node, name, []), tests=(*tests, *inner))
                for part in (*getattr(node, "handlers", []), *getattr(node, "cases", [])):
                    yield from _bindings(part.body, tests=(*tests, *inner))


def _targets(target: ast.expr) -> list[str]:
    return [node.id for node in ast.walk(target) if isinstance(node, ast.Name)]


def _mentioned(nodes: list[ast.AST]) -> set[str]:
    found: set[str] = set()
    for top in nodes:
        for node in ast.walk(top):
            match node:
                case ast.Name(id=name):
                    found.add(name)
                case ast.Attribute(attr=name):
                    found.add(name)
                case _:
                    pass
    return found
