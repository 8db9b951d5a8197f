"""Completion in bash, zsh and fish themselves, of a fleet that runs."""

from __future__ import annotations

import subprocess
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.support.ctl import BIN, Ctl, fleet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

APP = """\
def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "0")])
    return [b""]
"""

CONFIG = """\
[app]
target = "site_app:application"
[server]
bind = "127.0.0.1:0"
[workers]
count = 2
[process]
name = "{name}"
"""

BASH = """\
eval "$(unicornctl completion bash)"
complete -p unicornctl unicornd | grep -c -- '-F _unicornctl'
for COMP_LINE; do
    COMP_POINT=${#COMP_LINE}
    _unicornctl unicornctl "${COMP_LINE##*[ =]}" "" 2>/dev/null
    echo "${COMPREPLY[@]}"
done
"""

# zsh's own commands of completion work in its line editor only: zpty gives it a terminal.
ZSH = """\
zmodload zsh/zpty
zpty line zsh -f -i
zpty -w line 'PROMPT= RPROMPT= TERM=dumb; autoload -Uz compinit; compinit -u -D; LISTMAX=1000'
zpty -w line 'eval "$(unicornctl completion zsh)"'
zpty -w line 'bindkey "^I" complete-word; zstyle ":completion:*" menu no'
zpty -w line 'print rea''dy'
zpty -r -m line heard '*ready*'
zpty -w -n line "$1"$'\\t'
zpty -w -n line $'\\x01print -r -- \n'
zpty -r -m line heard $'*\nunicornctl st*\n*'
print -r -- "$heard"
"""

FISH = """\
unicornctl completion fish | source
for line in $argv
    echo (complete -C "$line")
end
"""


@pytest.fixture
def ctl(tmp_path: Path) -> Iterator[Ctl]:
    (tmp_path / "site_app.py").write_text(APP)
    with fleet(tmp_path, CONFIG.format(name=f"test-{uuid.uuid4().hex[:12]}")) as made:
        made.start()
        yield made
        made.stop()


def asked(ctl: Ctl, shell: list[str], *lines: str) -> list[str]:
    environ = {**ctl.environ, "PATH": f"{BIN}:{ctl.environ['PATH']}", "HOME": str(ctl.config.parent)}
    done = subprocess.run(
        [*shell, *lines], cwd=ctl.config.parent, env=environ, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_each_shell_knows_commands_slots_instances_and_settings(ctl: Ctl) -> None:
    name = ctl.config.read_text().rpartition('name = "')[2].partition('"')[0]
    lines = ["stat", "recycle ", "--instance test-", "config set workers.kind=gevent_", "-c unicornd.t"]
    asking = [f"unicornctl {line}" for line in lines]
    bash = asked(ctl, ["bash", "--norc", "-c", BASH, "bash"], *asking)
    assert bash == ["2", "status", "1 2", name, "gevent_pywsgi", "unicornd.toml"]
    fish = asked(ctl, ["fish", "--no-config", "-c", FISH], *asking)
    assert [line.split("\t")[0] for line in fish] == [
        "status",
        "1",
        name,
        "workers.kind=gevent_pywsgi",
        "unicornd.toml",
    ]
    assert fish[0] == "status\tShow the fleet on one screen."
    assert "unicornctl status" in asked(ctl, ["zsh", "-f", "-c", ZSH, "zsh"], "unicornctl stat")
