"""`app.target` → the application.

Run in the worker, after the fork. Tells apart what the operator got wrong (the name: `AppError`, exit code 4) from what
the application got wrong (it raises while it is imported: `BootError`, exit code 3).
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unicornd.errors import AppError, BootError
from unicornd.workers.closed import hint_of_closed, hint_of_closed_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType, TracebackType

    from unicornd.config.values import ImportString

DEFAULT_ATTRIBUTE = "application"
PACKAGE_FOLDER = str(Path(__file__).parents[1]) + os.sep


def load_app(target: ImportString) -> Callable[..., Any]:
    """Import the application; call the factory if the target is a call.

    Raises:
        AppError: module or attribute are not there, or what is there cannot be called.
        BootError: the application's code raised.
    """
    app = load_object(target, default=DEFAULT_ATTRIBUTE)
    if not callable(app):
        what = (
            "what the factory returned"
            if target.arguments is not None
            else target.attribute or DEFAULT_ATTRIBUTE
        )
        raise AppError(
            f"app.target: {target}: {what} is not callable, it is of type {type(app).__name__}",
            hint='name the WSGI application, or call its factory: "module:create_app()"',
        )
    return app  # type: ignore[no-any-return] # just found to be callable


def load_object(
    target: ImportString, *, default: str = "", files: dict[str, ModuleType] | None = None
) -> Any:  # noqa: ANN401 - whatever it names
    """Import what an import string names, and call it if it is a call.

    Args:
        target: names it.
        default: the attribute, if it names none.
        files: what files have been run so far: their functions see the same names. Else it is run anew.

    Raises:
        AppError: it is not there.
        BootError: the code raised.
    """
    if not target.is_file:
        module = _import_module(target)
    elif files is None or target.module not in files:
        module = _import_file(target)
        (files if files is not None else {})[target.module] = module
    else:
        module = files[target.module]
    found = _find_attribute(module, target, dotted=target.attribute or default)
    if target.arguments is None:
        return found
    if not callable(found):
        raise AppError(f"app.target: {target}: {target.attribute} is not callable")
    try:
        return found(*target.arguments, **dict(target.keywords))
    except BaseException as error:
        raise boot_error(f"{target} raised", error) from error


def _import_module(target: ImportString) -> ModuleType:
    try:
        return importlib.import_module(target.module)
    except ModuleNotFoundError as error:
        if error.name is None or not (
            target.module == error.name or target.module.startswith(f"{error.name}.")
        ):
            raise boot_error(f"importing {target.module} raised", error) from error
        folders = ", ".join(dict.fromkeys(os.path.realpath(path or os.curdir) for path in sys.path[:2]))
        places = f"it is looked for in {folders} and the installed packages; app.chdir and app.pythonpath add folders"
        raise AppError(
            f"app.target: {target}: there is no module {error.name!r}",
            hint="; ".join(filter(None, (places, hint_of_closed_path()))),
        ) from error
    except BaseException as error:
        raise boot_error(f"importing {target.module} raised", error) from error


def _import_file(target: ImportString) -> ModuleType:
    path = Path(target.module).resolve()
    if not os.path.isfile(path):  # noqa: PTH113 - without exceptions
        hint = hint_of_closed([str(path.parent)]) or "relative paths start at app.chdir"
        raise AppError(f"app.target: {target}: there is no file {path}", hint=hint)
    name = path.stem if path.stem.isidentifier() else "unicornd_app"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise AppError(f"app.target: {target}: {path} is not Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        raise boot_error(f"importing {path} raised", error) from error
    return module


def _find_attribute(module: ModuleType, target: ImportString, *, dotted: str) -> Any:  # noqa: ANN401 - whatever it names
    found: Any = module
    for name in dotted.split(".") if dotted else ():
        try:
            found = getattr(found, name)
        except AttributeError:
            from difflib import get_close_matches  # noqa: PLC0415 - for a mistake

            near = get_close_matches(name, [known for known in dir(found) if not known.startswith("_")], n=1)
            where = getattr(module, "__file__", None) or target.module
            hint = f'did you mean "{near[0]}"?' if near else f'name another one: "{target.module}:ATTRIBUTE"'
            raise AppError(f"app.target: {target}: {where} has no attribute {name!r}", hint=hint) from None
    return found


def boot_error(what: str, error: BaseException) -> BootError:
    """Return the error with the application's traceback, without the frames of the import machinery and ours."""
    last = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in last if not _is_ours(frame.filename)]
    place = f" at {theirs[-1].filename}:{theirs[-1].lineno}" if theirs else ""
    if isinstance(error, SyntaxError) and error.filename:
        place = f" at {error.filename}:{error.lineno}"
    text = str(error).partition("\n")[0]
    kind = type(error).__name__
    message = f"{what} {kind}{f': {text}' if text else ''}{place}"
    hint = hint_of_closed_path() if isinstance(error, ImportError | PermissionError) else ""
    return BootError(message, hint=hint, detail=_trimmed(error, error.__traceback__))


def _trimmed(error: BaseException, found: TracebackType | None) -> str:
    while found is not None and _is_ours(found.tb_frame.f_code.co_filename):
        found = found.tb_next
    return "".join(traceback.format_exception(type(error), error, found)).rstrip()


def _is_ours(filename: str) -> bool:
    return filename.startswith((PACKAGE_FOLDER, "<frozen importlib")) or filename == importlib.__file__
