"""Runs a configuration file of gunicorn's, and tells as JSON which names it has set.

A process of its own, started by `config.pyfile`: whatever the file imports, prints or breaks stays here. Standard
library only. What the file prints goes to standard error; standard output has one JSON object:
`{"file", "values": {name: value}, "effects": see `effects.Witness.told`, "error": null | {"message", "line", "detail"}}`, where
a value is `{"plain": …}`, `{"callable": "module:name" | ""}` (empty: made in the file itself), or `{"other": "its repr"}`.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
import sys
import traceback
from importlib.machinery import SourceFileLoader
from types import ModuleType
from typing import Any

from unicornd.config.effects import Witness

NAME = "__config__"
"""What the file's module is called, as in gunicorn."""
MODULE_PREFIX = "python:"
MAX_REPR = 80


def main(what: str) -> None:
    """Run a path or `python:MODULE` in this process, and write the report."""
    report = os.dup(1)
    os.dup2(2, 1)
    # Behind what is installed: this may be run by root, and the folder be somebody else's.
    with contextlib.suppress(FileNotFoundError):  # it may be gone
        sys.path.append(os.getcwd())  # noqa: PTH109 - a str is what sys.path wants
    with os.fdopen(report, "w", encoding="utf-8") as stream:
        stream.write(json.dumps(evaluated(what)))


def evaluated(what: str) -> dict[str, Any]:
    """Run the file or module, and return what is to be told."""
    file = what
    witness = Witness()
    try:
        module = _module(what)
        file = getattr(module, "__file__", None) or what
        names = {name: value for name, value in vars(module).items() if not name.startswith("_")}
        values = {
            name: _told(value, module.__name__)
            for name, value in names.items()
            if not isinstance(value, ModuleType)
        }
    except BaseException as error:  # noqa: BLE001 - sys.exit() in a configuration is a mistake of it like any other
        return {"file": file, "values": {}, "effects": {}, "error": _fault(error, file)}
    return {"file": file, "values": values, "effects": witness.told(file), "error": None}


def _module(what: str) -> ModuleType:
    if what.startswith(MODULE_PREFIX):
        return importlib.import_module(what.removeprefix(MODULE_PREFIX))
    spec = importlib.util.spec_from_file_location(NAME, what, loader=SourceFileLoader(NAME, what))
    assert spec is not None  # noqa: S101 - there is a loader; tells the type checker
    assert spec.loader is not None  # noqa: S101 - likewise
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    sys.dont_write_bytecode = True
    spec.loader.exec_module(module)
    return module


def _told(value: object, module: str) -> dict[str, Any]:
    if callable(value):
        home = getattr(value, "__module__", None) or ""
        name = getattr(value, "__qualname__", "")
        is_elsewhere = home != module and _found(home, name) is value
        return {"callable": f"{home}:{name}" if is_elsewhere else ""}
    try:
        return {"plain": _plain(value)}
    except TypeError:
        return {"other": repr(value)[:MAX_REPR]}


def _found(home: str, name: str) -> object:
    """Return what a module has under a dotted name: a decorated function or a bound method only claims to be there."""
    found: object = sys.modules.get(home)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _plain(value: object) -> object:
    """Return a value as JSON has it.

    Raises:
        TypeError: it has something else in it.
    """
    match value:
        case None | bool():
            return value
        case int():
            return int(value)
        case float():
            return float(value)
        case str():
            return "".join(value)  # str() of an enum member would be its name
        case os.PathLike():
            return os.fspath(value)
        case list() | tuple() | set() | frozenset():
            return [
                _plain(item)
                for item in (sorted(value, key=repr) if isinstance(value, set | frozenset) else value)
            ]
        case dict() if all(isinstance(key, str) for key in value):
            return {key: _plain(item) for key, item in value.items()}
        case _:
            raise TypeError


def _fault(error: BaseException, file: str) -> dict[str, Any]:
    """Return what went wrong, and the last line of the file that took part in it."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    if isinstance(error, SyntaxError) and error.filename == file:
        lines.append(error.lineno)
    text = "".join(traceback.format_exception_only(error)).strip().rpartition("\n")[2]
    return {
        "message": text,
        "line": lines[-1] if lines else None,
        "detail": "".join(traceback.format_exception(error)) if not lines else "",
    }
