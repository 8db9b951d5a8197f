"""The text of a first `unicornd.toml`, made for what lies in a folder.

Run by `unicornctl config init`; reads, writes nothing.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

TEXT = """\
{schema}
# What should run. `unicornctl config check` tells whether it is right, `config show --origin` what is in effect,
# `config show --all` which settings there are, `config explain NAME` what one means.

[app]
target = "{target}"{note}{warmup}

[server]
bind = "127.0.0.1:8000"           # or "unix:/run/…/web.sock", or several: ["…", "…"]

[workers]
count = 2                         # or "auto": 2 × processors + 1
{kind}

[timeouts]
request = 30                      # seconds, or "30s", "5m"
graceful = 30

#[logging]
#error = "-"                      # standard error, or a path
#[logging.access]
#file = "-"                       # standard output, or a path
"""

WITHOUT_SCHEMA = """\
# For editors: `unicornctl config schema > unicornd.schema.json`, and "#:schema ./unicornd.schema.json" in this line."""
KIND_OF_WSGI = """\
kind = "threads"                  # sync: one request at a time, no kept connections
threads = 4"""
KIND_OF_ASGI = """\
kind = "asgi"                     # an event loop; needs: pip install 'unicornd[asgi]'"""

WARMUP_OF_DJANGO = """
warmup = ["/"]                    # asked before a worker is ready: else views are imported by the first request, too late
                                  # for a reload of broken ones to be rolled back"""

NAMES = ("application", "app", "create_app", "make_app")
FILES = ("wsgi.py", "app.py", "main.py", "application.py", "server.py", "asgi.py")
ASGI_FRAMEWORKS = frozenset({"blacksheep", "fastapi", "litestar", "quart", "sanic", "starlette"})
"""Packages whose applications speak ASGI: who imports one of them is taken for one."""


class _Found(NamedTuple):
    """An application that was found: what `app.target` is to say, and whether it looks like ASGI."""

    target: str
    is_asgi: bool


class Starter(NamedTuple):
    """A first configuration, and the application that it names; empty if none was found."""

    text: str
    target: str


def starter_for(folder: Path, *, schema: str) -> Starter:
    """Return a configuration for what is found in `folder`.

    Args:
        folder: where the application is looked for.
        schema: where editors find the schema, from the file on; empty if it is in no place that others have, too.
    """
    django = _django(folder)
    found = django or _application(folder)
    text = TEXT.format(
        schema=f"#:schema {schema}" if schema else WITHOUT_SCHEMA,
        target=found.target if found else "module:application",
        note="" if found else "       # module:attribute, module:factory(), or ./file.py:attribute",
        warmup=WARMUP_OF_DJANGO if django else "",
        kind=KIND_OF_ASGI if found and found.is_asgi else KIND_OF_WSGI,
    )
    return Starter(text, found.target if found else "")


def _django(folder: Path) -> _Found | None:
    """Return the WSGI application of a Django project: the package with `wsgi.py` beside `manage.py`."""
    if not (folder / "manage.py").is_file():
        return None
    packages = sorted(name for path in folder.glob("*/wsgi.py") if (name := path.parent.name).isidentifier())
    return _Found(f"{packages[0]}.wsgi:application", is_asgi=False) if packages else None


def _application(folder: Path) -> _Found | None:
    """Return the first well-known name in a well-known file; files are parsed, not run."""
    for file in FILES:
        path = folder / file
        if not path.is_file():
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (OSError, SyntaxError, ValueError):
            continue
        names = _top_level_names(tree)
        for name in NAMES:
            if name in names:
                call = "()" if name in {"create_app", "make_app"} else ""
                return _Found(f"{path.stem}:{name}{call}", is_asgi=_is_asgi(tree, name))
    return None


def _is_asgi(tree: ast.Module, name: str) -> bool:
    """Whether the file imports a framework that speaks ASGI, Django's side of it, or has a coroutine of that name."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                modules = {alias.name.partition(".")[0] for alias in names}
            case ast.ImportFrom(module=str(module), names=names):
                modules = {module.partition(".")[0], *(alias.name for alias in names)}
            case _:
                modules = set()
        if modules & ASGI_FRAMEWORKS or "get_asgi_application" in modules:
            return True
        if isinstance(node, ast.AsyncFunctionDef) and node.name == name and node in tree.body:
            return True
    return False


def _top_level_names(tree: ast.Module) -> set[str]:
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found.update(target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return found
