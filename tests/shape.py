"""What can be counted about how the code is to live in: import circles, names with two meanings, wiring from outside.

Reads the sources as syntax trees; runs none of them. `python -m tests.shape` prints the measures, and with `--list` what
they count; tests/test_architecture.py holds some of them to limits.
"""

from __future__ import annotations

import ast
import statistics
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

PACKAGE = Path(__file__).parent.parent / "unicornd"
SOURCES = sorted(PACKAGE.rglob("*.py"))
SHORT_FILE = 60
"""A file of fewer lines is one that a reader opens for little."""


@cache
def tree_of(path: Path) -> ast.Module:
    """The file as a syntax tree."""
    return ast.parse(path.read_text(), filename=str(path))


def place_of(path: Path) -> str:
    """The file's place below the package: `workers/boot.py`."""
    return path.relative_to(PACKAGE).as_posix()


def module_of(path: Path) -> str:
    """The module's name: `unicornd.workers.boot`."""
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def import_graph() -> dict[str, set[str]]:
    """Which module of the package names which others, imports for the type checker included."""
    modules = {module_of(path): path for path in SOURCES}
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        named: set[str] = set()
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Import):
                named.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                inside = (f"{node.module}.{alias.name}" for alias in node.names)
                named.update(each if each in modules else node.module for each in inside)
        graph[module] = named & modules.keys() - {module}
    return graph


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """The sets of modules that reach each other, largest first."""
    reach = {module: _reached_from(module, graph) for module in graph}
    found: dict[frozenset[str], None] = {}
    for module, reached in reach.items():
        ring = frozenset({module} | {other for other in reached if module in reach[other]})
        if len(ring) > 1:
            found[ring] = None
    return sorted((sorted(ring) for ring in found), key=len, reverse=True)


def _reached_from(start: str, graph: Mapping[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    ahead = [start]
    while ahead:
        for module in graph[ahead.pop()] - seen:
            seen.add(module)
            ahead.append(module)
    return seen


def classes_by_name() -> dict[str, list[str]]:
    """The name of each class, and the places where one of that name is declared."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in SOURCES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(place_of(path))
    return dict(found)


def assigned_from_outside(path: Path) -> Iterator[str]:
    """Where a file assigns an attribute that no class of this file declares or sets: `daemon.py:238 loop.tickers`."""
    own = set(_own_attributes(tree_of(path)))
    for node in ast.walk(tree_of(path)):
        for target in _targets(node):
            if isinstance(target, ast.Attribute) and not _is_self(target.value) and target.attr not in own:
                yield f"{place_of(path)}:{target.lineno} {ast.unparse(target)}"


def _own_attributes(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield from (
                each.target.id
                for each in node.body
                if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
            )
        for target in _targets(node):
            if isinstance(target, ast.Attribute) and _is_self(target.value):
                yield target.attr


def _targets(node: ast.AST) -> Iterable[ast.expr]:
    match node:
        case ast.Assign():
            for target in node.targets:
                yield from target.elts if isinstance(target, ast.Tuple) else (target,)
        case ast.AugAssign() | ast.AnnAssign():
            yield node.target
        case _:
            pass


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in {"self", "cls"}


def main(arguments: list[str]) -> None:
    """Print the measures."""
    lengths = {place_of(path): len(path.read_text().splitlines()) for path in SOURCES}
    rings = circles(import_graph())
    names = {name: places for name, places in classes_by_name().items() if len(places) > 1}
    outside = [each for path in SOURCES for each in assigned_from_outside(path)]
    short = sorted(
        f"{place}: {lines}"
        for place, lines in lengths.items()
        if lines < SHORT_FILE and not place.endswith("__init__.py")
    )
    median = statistics.median(lengths.values())
    measures: list[tuple[str, str, list[str]]] = [
        ("files / lines / median", f"{len(lengths)} / {sum(lengths.values())} / {median:.0f}", []),
        ("circles, with typing", str(len(rings)), [" ".join(ring) for ring in rings]),
        ("modules in circles", str(sum(map(len, rings))), []),
        ("attributes assigned from outside", str(len(outside)), outside),
        (
            "class names with several meanings",
            str(len(names)),
            [f"{name}: {' '.join(places)}" for name, places in names.items()],
        ),
        (f"files under {SHORT_FILE} lines", str(len(short)), short),
    ]
    for title, value, items in measures:
        print(f"{title:36} {value}")
        if "--list" in arguments:
            print(*(f"    {item}" for item in items), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
