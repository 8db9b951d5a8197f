"""The shape of the code: who imports whom, how long things are, what they are called.

Reads the sources as syntax trees; runs none of them. The lists of exceptions only ever shrink: an entry that is not
needed any more fails the test too.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.shape import (
    PACKAGE,
    SOURCES,
    assigned_from_outside,
    circles,
    classes_by_name,
    import_graph,
    place_of,
    tree_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 40
MAX_POSITIONAL = 2

# Functions that may be longer or take more positional parameters, with the reason. Shrinks only.
FUNCTION_EXCEPTIONS: dict[str, str] = {
    "http/response.py:encode_head": "once a response: 1.1 µs as it is, 1.4 µs split in two; keywords would cost 0.1 µs",
    "workers/kinds/gevent_pywsgi.py:Visit.handle_error": "gevent calls it with three positional arguments",
    "workers/kinds/tornado_messages.py:Messages._begin_response": "tornado calls it with three positional arguments",
    "workers/wsgi.py:Exchange.start_response": "PEP 3333 gives it three positional parameters",
}

# layer → the layers it may import (besides itself, units and errors). DESIGN section 3.
LAYERS: dict[str, frozenset[str]] = {
    "config": frozenset(),
    "http": frozenset(),
    "control": frozenset({"config", "http"}),
    "sockets": frozenset({"config", "http", "control"}),
    "observe": frozenset({"config", "http", "control"}),
    "workers": frozenset({"config", "http", "sockets", "observe"}),
    "arbiter": frozenset({"config", "http", "control", "sockets", "observe", "workers"}),
    "daemon": frozenset({"config", "http", "control", "sockets", "observe", "workers", "arbiter"}),
    "cli": frozenset({"config", "control"}),
    "cli/daemon": frozenset({"config", "control", "daemon", "arbiter", "cli"}),
    "top": frozenset(),
    "main": frozenset({"cli/daemon"}),
}

# third-party (or standard) module → the places that may import it.
ONLY_IN: dict[str, tuple[str, ...]] = {
    "typer": ("cli/",),
    "rich": ("cli/",),
    "click": (),
    "pydantic": ("config/", "control/"),
    "pydantic_core": ("config/", "control/"),
    "tomli_w": ("config/write.py",),
    "gevent": ("workers/kinds/gevent.py", "workers/kinds/gevent_pywsgi.py"),
    "eventlet": ("workers/kinds/eventlet.py",),
    "tornado": ("workers/kinds/tornado",),
    "uvicorn": ("workers/kinds/asgi.py", "workers/asgi/hosting.py"),
    "httptools": ("workers/kinds/asgi.py", "workers/asgi/upgrades.py"),
    "asyncio": ("workers/kinds/asgi.py", "workers/kinds/tornado", "workers/asgi/"),
    "uvloop": ("workers/asgi/loop.py",),
}

HTTP_MAY_NOT = frozenset({"socket", "os", "time", "logging"})
PURE_MAY_NOT = frozenset({"os", "socket", "signal", "time", "logging", "threading"})
PURE_ARBITER = (
    "state",
    "events",
    "actions",
    "fold",
    "molds",
    "plan",
    "requests",
    "roster",
    "slots",
    "troubles",
    "view",
)

# Who may name the root Settings outside config/.
SETTINGS_NAMED_IN = frozenset({"daemon.py", "arbiter/reload.py", "workers/boot.py", "cli/commands/config.py"})

# Names that say nothing of what is inside. The field's own words (handler, base …) are welcome.
FORBIDDEN_WORD = re.compile(r"(?:^|_)(?:utils?|misc|common)(?:_|$)")
FORBIDDEN_IN_CLASS = re.compile(r"Utils?(?![a-z])|Common|Misc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """One import statement: which module, at which line, and whether only the type checker sees it."""

    module: str
    names: tuple[str, ...]
    line: int
    is_typing: bool


def layer_of(place: str) -> str:
    match place.split("/"):
        case ["cli", "daemon.py"]:
            return "cli/daemon"
        case ["__main__.py"]:
            return "main"
        case ["daemon.py"]:
            return "daemon"
        case [_]:
            return "top"
        case [folder, *_]:
            return folder
        case _:
            raise AssertionError(place)


def _typing_lines(tree: ast.Module) -> frozenset[int]:
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            for inner in node.body:
                lines.update(range(inner.lineno, (inner.end_lineno or inner.lineno) + 1))
    return frozenset(lines)


def imports_of(path: Path) -> list[Import]:
    tree = tree_of(path)
    typing_lines = _typing_lines(tree)
    found: list[Import] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules, names = [alias.name for alias in node.names], tuple[str, ...]()
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{place_of(path)}:{node.lineno}: relative import"
            modules, names = [node.module or ""], tuple(alias.name for alias in node.names)
        else:
            continue
        is_typing = node.lineno in typing_lines
        found += [
            Import(module=module, names=names, line=node.lineno, is_typing=is_typing) for module in modules
        ]
    return found


def _place_of_module(module: str) -> str:
    """`unicornd.workers.boot` → `workers/boot.py`, `unicornd.workers` → `workers/__init__.py`."""
    path = PACKAGE.parent / module.replace(".", "/")
    return place_of(path / "__init__.py" if path.is_dir() else path.with_suffix(".py"))


def _target_layers(statement: Import) -> list[str]:
    """The layers of unicornd that a statement reaches (`from unicornd.workers import boot` → workers)."""
    if statement.module == "unicornd":
        folders = [
            name for name in statement.names if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").exists()
        ]
        return [layer_of(_place_of_module(f"unicornd.{name}")) for name in folders]
    if statement.module.startswith("unicornd."):
        return [layer_of(_place_of_module(statement.module))]
    return []


def all_imports() -> Iterator[tuple[str, Import]]:
    """Every import of every file, with the file's place."""
    for path in SOURCES:
        for statement in imports_of(path):
            yield place_of(path), statement


def test_imports_follow_the_layers() -> None:
    wrong = [
        f"{place}:{statement.line}: {layer_of(place)} may not import {target} ({statement.module})"
        for place, statement in all_imports()
        for target in _target_layers(statement)
        if target not in {layer_of(place), "top"} and target not in LAYERS[layer_of(place)]
    ]
    assert not wrong, "\n".join(wrong)


def test_libraries_are_imported_only_where_they_belong() -> None:
    wrong = [
        f"{place}:{statement.line}: {statement.module}"
        for place, statement in all_imports()
        if (library := statement.module.split(".")[0]) in ONLY_IN
        and not place.startswith(ONLY_IN[library] or ("nowhere",))
    ]
    assert not wrong, "\n".join(wrong)


def test_http_knows_no_socket_clock_or_log() -> None:
    wrong = [
        f"{place}:{statement.line}: {statement.module}"
        for place, statement in all_imports()
        if layer_of(place) == "http" and statement.module.split(".")[0] in HTTP_MAY_NOT
    ]
    assert not wrong, "\n".join(wrong)


def test_the_decision_core_is_pure() -> None:
    pure = {f"arbiter/{name}.py" for name in PURE_ARBITER}
    assert pure <= {place_of(path) for path in SOURCES}
    wrong = [
        f"{place}:{statement.line}: {statement.module}"
        for place, statement in all_imports()
        if place in pure and statement.module.split(".")[0] in PURE_MAY_NOT and not statement.is_typing
    ]
    assert not wrong, "\n".join(wrong)


def test_the_decision_core_names_no_pool() -> None:
    for name in ("state", "events", "actions", "fold", "plan"):
        strings = [
            node.value
            for node in ast.walk(tree_of(PACKAGE / "arbiter" / f"{name}.py"))
            if isinstance(node, ast.Constant)
        ]
        assert "web" not in strings, name


def test_the_control_client_needs_no_pydantic() -> None:
    for place in ("control/client.py", "config/instance.py", "cli/predicates.py"):
        heavy = [
            s for s in imports_of(PACKAGE / place) if s.module.split(".")[0] in {"pydantic", "typer", "rich"}
        ]
        assert not heavy, place


def test_the_root_settings_are_named_in_few_places() -> None:
    wrong = [
        f"{place}:{statement.line}"
        for place, statement in all_imports()
        if not place.startswith("config/")
        and place not in SETTINGS_NAMED_IN
        and statement.module == "unicornd.config.settings"
        and "Settings" in statement.names
    ]
    assert not wrong, "\n".join(wrong)


def test_files_are_short_and_open_with_a_docstring() -> None:
    wrong = []
    for path in SOURCES:
        lines = path.read_text().splitlines()
        if len(lines) > MAX_FILE_LINES:
            wrong.append(f"{place_of(path)}: {len(lines)} lines")
        if lines and not ast.get_docstring(tree_of(path)):
            wrong.append(f"{place_of(path)}: a module opens with what it is and who runs it")
    assert not wrong, "\n".join(wrong)


def _functions(path: Path) -> list[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    found: list[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]] = []

    def visit(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                found.append((f"{prefix}{child.name}", child))
                visit(child, f"{prefix}{child.name}.")
            elif isinstance(child, ast.ClassDef):
                visit(child, f"{prefix}{child.name}.")
            else:
                visit(child, prefix)

    visit(tree_of(path), f"{place_of(path)}:")
    return found


def _code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the end, without the docstring."""
    first = function.body[0]
    total = (function.end_lineno or function.lineno) - function.lineno + 1
    has_docstring = (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    )
    return total - ((first.end_lineno or first.lineno) - first.lineno + 1 if has_docstring else 0)


def _positional(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    names = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
    return len([name for name in names if name not in {"self", "cls"}])


def _faults(name: str, function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    faults = []
    if _code_lines(function) > MAX_FUNCTION_LINES:
        faults.append(f"{name} (line {function.lineno}): {_code_lines(function)} lines")
    is_protocol_of_python = function.name.startswith("__") and function.name != "__init__"
    is_command = any(
        "command" in ast.unparse(d) or "callback" in ast.unparse(d) for d in function.decorator_list
    )
    if _positional(function) > MAX_POSITIONAL and not is_protocol_of_python and not is_command:
        faults.append(f"{name} (line {function.lineno}): {_positional(function)} positional parameters")
    return faults


def test_functions_are_short_and_take_few_positional_parameters() -> None:
    wrong = [
        fault
        for path in SOURCES
        for name, function in _functions(path)
        if name not in FUNCTION_EXCEPTIONS
        for fault in _faults(name, function)
    ]
    assert not wrong, "\n".join(wrong)


def test_the_list_of_exceptions_only_shrinks() -> None:
    everything = {name: function for path in SOURCES for name, function in _functions(path)}
    needless = [
        name for name in FUNCTION_EXCEPTIONS if name not in everything or not _faults(name, everything[name])
    ]
    assert not needless


def test_names_say_what_things_are() -> None:
    wrong = [place_of(path) for path in SOURCES if FORBIDDEN_WORD.search(path.stem)]
    for path in SOURCES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ClassDef) and FORBIDDEN_IN_CLASS.search(node.name):
                wrong.append(f"{place_of(path)}:{node.lineno}: class {node.name}")
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and FORBIDDEN_WORD.search(node.name):
                wrong.append(f"{place_of(path)}:{node.lineno}: def {node.name}")
    assert not wrong, "\n".join(wrong)


def test_modules_keep_no_mutable_state() -> None:
    wrong = []
    for path in SOURCES:
        for node in tree_of(path).body:
            if isinstance(node, ast.FunctionDef) and node.name == "__getattr__":
                wrong.append(f"{place_of(path)}:{node.lineno}: module __getattr__")
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                wrong += [
                    f"{place_of(path)}:{inner.lineno}: global {inner.names}"
                    for inner in ast.walk(node)
                    if isinstance(inner, ast.Global)
                ]
    assert not wrong, "\n".join(wrong)


# Modules that import each other, if only for the type checker; the largest is to become several rooms. Shrinks only.
CIRCLES = {
    "unicornd.config.settings": 23,
    "unicornd.http.forwarded": 2,
    "unicornd.workers.kinds.tornado": 2,
}


def test_no_further_modules_import_each_other() -> None:
    rings = circles(import_graph())
    wrong = [
        ring
        for ring in rings
        if not any(len(ring) <= size for known, size in CIRCLES.items() if known in ring)
    ]
    assert not wrong
    assert len(rings) == len(CIRCLES), "a circle is gone: take it from the list"


MOST_SHARED_NAMES = 39
"""Class names with more than one meaning. Shrinks only."""


def test_class_names_have_one_meaning_each() -> None:
    shared = {name: places for name, places in classes_by_name().items() if len(places) > 1}
    assert len(shared) <= MOST_SHARED_NAMES, "\n".join(f"{name}: {places}" for name, places in shared.items())


# What the arbiter's parts set of each other although they are made with all that they need. Shrinks only.
SET_FROM_OUTSIDE = {
    "arbiter/hooks.py self._server.num_workers": "what a hook is shown changes",
    "arbiter/hooks.py view.pid": "a worker has one after its fork",
    "arbiter/processes.py reports.is_over": "of its own making",
    "arbiter/processes.py self.totals.boot_failures": "a count",
    "arbiter/processes.py self.totals.lost": "a count",
    "arbiter/processes.py self.totals.restarts": "a count",
}


def test_the_arbiters_parts_are_made_with_all_that_they_need() -> None:
    places = [
        path for path in SOURCES if place_of(path).startswith("arbiter/") or place_of(path) == "daemon.py"
    ]
    found = {re.sub(r":[0-9]+ ", " ", each) for path in places for each in assigned_from_outside(path)}
    assert found == SET_FROM_OUTSIDE.keys()
