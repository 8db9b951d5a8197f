"""What a fleet does not carry: the libraries that only reading a configuration needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

READING = {
    "pydantic",
    "pydantic_core",
    "tomli_w",
    "tomllib",
    "typer",
    "rich",
    "unicornd.config.layers",
    "unicornd.config.flags",
}
HEAVY = {
    "ssl",
    "asyncio",
    "email",
    "importlib.metadata",
    "logging.config",
    "subprocess",
    "decimal",
    "difflib",
    "tempfile",
}


@pytest.mark.parametrize(
    "module", ["unicornd.daemon", "unicornd.workers.kinds.threads", "unicornd.workers.kinds.sync"]
)
def test_it_is_not_there(module: str) -> None:
    program = f"import sys, {module}; print(' '.join(sys.modules))"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not (READING | HEAVY) & set(told.stdout.split())
