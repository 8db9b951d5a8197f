"""What a worker class of somebody else's descends from, read from the sources: only gunicorn can run those.

Nothing is imported: whoever asks may be root, and the class be somebody else's. What cannot be told here is told by the
worker that cannot serve. Standard library only.
"""

from __future__ import annotations

import ast
import os
import sys
from collections import deque
from typing import TYPE_CHECKING

from unicornd.config.conversions import known_kind
from unicornd.config.exposed import file_of
from unicornd.config.instance import working_folder
from unicornd.config.kinds import ASGI, GEVENT_PYWSGI, NAMES, THREADS, is_custom
from unicornd.config.values import ImportString

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from unicornd.config.draft import Draft

_AIOHTTP = (
    "no kind serves aiohttp's own applications: run it with aiohttp.web.run_app, behind a proxy; an ASGI application of any "
    'other framework is served by kind = "asgi"'
)
_OWN = "set a kind, or write one of your own: docs/kinds.md says what that has to be"
_SERVED_BY: Mapping[str, str] = {
    "uvicorn": ASGI,
    "uvicorn_worker": ASGI,
    "sanic": ASGI,
    "geventwebsocket": GEVENT_PYWSGI,
    "meinheld": THREADS,
}
"""Packages with worker classes for gunicorn, and the kind that serves their applications."""
_FOREIGN = frozenset({*_SERVED_BY, "aiohttp", "gunicorn"})
_MOST = 64
"""Names that are looked at for one class."""


def way_out(name: str) -> str | None:
    """Return what to do instead of a class whose dotted name this is, or of its descendants; None for other ones."""
    package = name.partition(".")[0]
    if package not in _FOREIGN:
        return None
    if package == "aiohttp":
        return _AIOHTTP
    kind = known_kind(name) if package == "gunicorn" else _SERVED_BY[package]
    if kind not in NAMES:
        return _OWN
    more = "; what it sets in CONFIG_KWARGS stands in [asgi] and [proxy]" if kind == ASGI else ""
    return f'set kind = "{kind}"{more}'


def foreign(kind: object, *, app: Draft) -> str:
    """Return why a kind cannot be had, if it is a worker class for gunicorn; else an empty text.

    Args:
        kind: `workers.kind` as it was said, which may be wrong in any way.
        app: has [app], likewise: where its module may be.
    """
    if not isinstance(kind, str) or known_kind(kind) in NAMES or not is_custom(kind):
        return ""
    try:
        target = ImportString.parse(kind)
    except ValueError:  # told by the model
        return ""
    module, attribute = target.module, target.attribute
    home = app.said("app", "chdir")
    home = home if isinstance(home, str) else str(working_folder())
    if target.is_file:
        module = os.path.join(home, module)  # noqa: PTH118 - a text
    elif not attribute:
        module, _, attribute = module.rpartition(".")
    folders = [each for key in ("pythonpath", "search_first") for each in _texts(app.said("app", key))]
    for name in ancestors(module, attribute, path=[*folders, home, *sys.path]):
        out = way_out(name)
        if out is not None:
            whose = "" if name == f"{module}.{attribute}" else f", by {name}"
            return f'"{kind}" is a worker class for gunicorn{whose}, which nothing else can run: {out}'
    return ""


def _texts(value: object) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list | tuple) else []


def ancestors(module: str, attribute: str, *, path: Sequence[str]) -> Iterator[str]:
    """Yield the dotted names of a class and of what it is made of, the nearest first, as far as sources tell."""
    wanted, seen = deque([(module, attribute)]), set[tuple[str, str]]()
    while wanted and len(seen) < _MOST:
        here = wanted.popleft()
        if here in seen:
            continue
        seen.add(here)
        module, attribute = here
        yield f"{module}.{attribute}"
        if module.partition(".")[0] not in _FOREIGN:
            names = _names_in(module, path)
            wanted += [
                place for each in names.get(attribute, ()) for place in _places(each, names, module=module)
            ]


def _names_in(module: str, path: Sequence[str]) -> Mapping[str, list[str]]:
    """Return what names of a module stand for: what is imported, assigned or inherited from, dotted."""
    file = file_of(module, path)
    if file is None or not file.endswith(".py"):
        return {}
    try:
        with open(file, "rb") as source:  # noqa: PTH123 - a text
            tree = ast.parse(source.read())
    except (OSError, SyntaxError, ValueError):  # told where it is imported
        return {}
    package = module if file.endswith("__init__.py") else module.rpartition(".")[0]
    names: dict[str, list[str]] = {}
    for node in ast.walk(tree):
        for name, found in _said(node, package):
            names.setdefault(name, []).extend(found)
    return names


def _said(node: ast.AST, package: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the names that a statement sets; whole names from elsewhere begin with `=`."""
    match node:
        case ast.Import(names=aliases):
            for alias in aliases:
                top = alias.name.partition(".")[0]
                yield alias.asname or top, [f"={alias.name if alias.asname else top}"]
        case ast.ImportFrom(names=aliases):
            origin = _origin(node, package)
            for alias in aliases:
                yield alias.asname or alias.name, [f"={origin}.{alias.name}"]
        case ast.ClassDef(name=name, bases=bases):
            yield name, [ast.unparse(base) for base in bases]
        case ast.Assign(targets=[ast.Name(id=name)], value=ast.Name() | ast.Attribute() as value):
            yield name, [ast.unparse(value)]
        case _:
            pass


def _origin(node: ast.ImportFrom, package: str) -> str:
    """Return the module that something is imported from, absolute."""
    parts = package.split(".")
    above = parts[: len(parts) + 1 - node.level] if node.level else []
    return ".".join([*above, *([node.module] if node.module else [])])


def _places(name: str, names: Mapping[str, list[str]], *, module: str) -> Iterator[tuple[str, str]]:
    """Yield what a name of a module may mean: module and attribute."""
    if _is_whole(name):
        home, _, attribute = name[1:].rpartition(".")
        yield home, attribute
        return
    first, dot, rest = name.partition(".")
    if not dot:
        yield module, name
        return
    for found in filter(_is_whole, names.get(first, ())):
        home, _, attribute = f"{found[1:]}.{rest}".rpartition(".")
        yield home, attribute


def _is_whole(name: str) -> bool:
    return name.startswith("=")
