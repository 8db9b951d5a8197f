#!/usr/bin/env bash
# `except click.UsageError` around a typer command catches nothing: typer brings a copy of click, whose classes are others.
#
# With click installed beside it, both `click.UsageError` and typer's exist and neither is the other's subclass. A program that
# runs its typer command with standalone_mode=False, to say usage errors in its own way, sees a traceback instead.
#
# Seen with: typer 0.29.2, click 8.5.1, CPython 3.11.7, on 2026-12-01.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
python3 -m venv venv && venv/bin/pip install --quiet --disable-pip-version-check typer==0.29.2 click==8.5.1
cat > command.py <<'PY'
import click, typer

app = typer.Typer()

@app.command()
def main(count: int) -> None:
    """Count."""

try:
    app(["many"], standalone_mode=False)
except click.UsageError:
    print("caught as click's")
except Exception as error:
    names = [f"{each.__module__}.{each.__qualname__}" for each in type(error).__mro__[:2]]
    print("not click's:", *names)
PY
venv/bin/python command.py > seen
cat seen
diff seen - <<'EOF' && echo "as found"
not click's: typer._click.exceptions.BadParameter typer._click.exceptions.UsageError
EOF
