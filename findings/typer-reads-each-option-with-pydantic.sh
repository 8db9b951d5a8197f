#!/usr/bin/env bash
# typer: a command with one switch, which nobody has given, imports pydantic as soon as it runs.
#
# Values are made what their annotation says by a TypeAdapter of pydantic, one for each parameter, and a default goes that way, too.
# So each run of each command waits for pydantic, a larger import than typer's own; only `--help` does not.
#
# Seen with: typer 0.29.2, pydantic 2.14.4, CPython 3.11.7, on 2026-12-01.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check typer==0.29.2 pydantic==2.14.4

cat > program.py <<'PY'
import atexit
import sys

import typer

app = typer.Typer()


@app.command()
def run(loud: bool = False) -> None:
    """Do nothing."""


def tell() -> None:
    names = [name for name in sys.modules if name.partition(".")[0] in {"pydantic", "pydantic_core"}]
    print("pydantic:", "imported" if "pydantic" in names else "not imported")


print("typer imported;", end=" ")
tell()
atexit.register(tell)
app()
PY
venv/bin/python program.py > seen
venv/bin/python program.py --help | tail -n 1 >> seen
cat seen
diff seen - <<'EOF' && echo "as found"
typer imported; pydantic: not imported
pydantic: imported
pydantic: not imported
EOF
