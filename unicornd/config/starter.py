"""The text of a first `unicornd.toml`, made for what lies in a folder.

Run by `unicornctl config init`; reads, writes nothing.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

TEXT = """\
# What should run. `unicornctl config check` tells whether it is right, `config show --origin` what is in effect;
# every setting: docs/settings.md.

[app]
target = "{target}"{note}

[server]
bind = "127.0.0.1:8000"           # or "unix:/run/…/web.sock", or several: ["…", "…"]

[workers]
count = 2                         # or "auto": 2 × processors + 1
kind = "threads"                  # sync: one request at a time, no kept connections
threads = 4

[timeouts]
request = 30                      # seconds, or "30s", "5m"
graceful = 30

#[logging]
#error = "-"                      # standard error, or a path
#[logging.access]
#file = "-"                       # standard output, or a path
"""

NAMES = ("application", "app", "create_app", "make_app")
FILES = ("wsgi.py", "app.py", "main.py", "application.py", "server.py")


def starter_text(folder: Path) -> str:
    """Return a configuration for what is found in `folder`."""
    target = _django(folder) or _application(folder)
    note = "" if target else "       # module:attribute, module:factory(), or ./file.py:attribute"
    return TEXT.format(target=target or "module:application", note=note)


def _django(folder: Path) -> str:
    """Return the WSGI application of a Django project: the package with `wsgi.py` beside `manage.py`."""
    if not (folder / "manage.py").is_file():
        return ""
    packages = sorted(name for path in folder.glob("*/wsgi.py") if (name := path.parent.name).isidentifier())
    return f"{packages[0]}.wsgi:application" if packages else ""


def _application(folder: Path) -> str:
    """Return the first well-known name in a well-known file; files are parsed, not run."""
    for file in FILES:
        path = folder / file
        if not path.is_file():
            continue
        try:
            names = _top_level_names(ast.parse(path.read_text(encoding="utf-8")))
        except (OSError, SyntaxError, ValueError):
            continue
        for name in NAMES:
            if name in names:
                return f"{path.stem}:{name}{'()' if name in {'create_app', 'make_app'} else ''}"
    return ""


def _top_level_names(tree: ast.Module) -> set[str]:
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found.update(target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return found
