"""What may stand at a place of a command line; the shells themselves are in tests/process/test_cli_completion.py."""

from __future__ import annotations

import typing

import pytest

from unicornd.cli import inventory
from unicornd.cli.complete import FILES, candidates, main
from unicornd.cli.ctl import COMMANDS as MODULES
from unicornd.cli.generate import main as generate
from unicornd.cli.predicates import ABOUT
from unicornd.cli.table import COMMANDS

if typing.TYPE_CHECKING:
    from pathlib import Path


def words_of(line: str) -> list[str]:
    return [each.word for each in candidates(line.split(" "))]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("unicornctl rel", ["reload"]),
        ("unicornctl is-", ["is-running", "is-ready"]),
        ("unicornctl -c here.toml sca", ["scale"]),
        ("unicornctl --instance shop config s", ["show", "schema", "set"]),
        ("unicornctl stop --n", ["--now", "--no-wait"]),
        ("unicornctl --so", ["--socket"]),
        ("unicornctl status -c ", [FILES]),
        ("unicornctl --config=", [FILES]),
        ("unicornctl config import ", [FILES]),
        ("unicornctl completion ", ["bash", "zsh", "fish"]),
        ("unicornctl completion bash ", []),
        ("unicornctl scale ", []),
        ("unicornctl config explain reload.e", ["reload.engine", "reload.extra_files"]),
        ("unicornctl config set timeouts.gr", ["timeouts.graceful="]),
        ("unicornctl config set app.preload=", ["app.preload=true", "app.preload=false"]),
        ("unicornctl config set workers.kind=ev", ["workers.kind=eventlet"]),
        ("unicornctl stop --timeout ", []),
        ("unicornctl events -n 5 --f", ["--follow"]),
        ("unicornctl no-such-command ", []),
        ("/opt/unicornd/bin/unicornd -k s", ["sync"]),
        ("unicornd --worker-class=th", ["--worker-class=threads"]),
        ("unicornd --set server.protocol=", ["server.protocol=http", "server.protocol=uwsgi"]),
        ("unicornd --graceful-t", ["--graceful-timeout"]),
        ("unicornd -c ", [FILES]),
        ("unicornd ", [FILES]),
    ],
)  # fmt: skip
def test_what_may_stand_there(line: str, expected: list[str]) -> None:
    assert words_of(line) == expected


@pytest.mark.parametrize(
    ("line", "part", "expected"),
    [
        ("unicornctl config set timeouts.grac", "timeouts.grac", "timeouts.graceful=\n"),
        ("unicornctl config set workers.kind=syn", "syn", "sync\n"),  # for bash, `=` ends a word
        ("unicornctl --instance 'a b' sta", "sta", "start\nstatus\nstacks\n"),
        ("unicornctl 'sta", "'sta", "start\nstatus\nstacks\n"),
        ("", "", ""),
    ],
)
def test_bash_gets_the_rest_of_its_own_word(
    line: str, part: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bash", line, part]) == 0
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize("arguments", [[], ["bash"], ["zsh"], ["bash", "unicornctl stacks ", "", "more"]])
def test_a_question_that_is_none_is_answered_by_nothing(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 0
    assert capsys.readouterr() == ("", "")


def test_every_command_can_be_completed() -> None:
    assert {name.split()[0] for name in COMMANDS} == {*MODULES, *ABOUT}
    assert all(about and about == about.strip() for about, _, _ in COMMANDS.values())
    assert {command.name for command in inventory.commands()} == set(COMMANDS)


def test_what_is_made_of_the_commands_is_up_to_date(tmp_path: Path) -> None:
    assert generate(["check"]) == 0
    assert generate(["check", str(tmp_path)]) == 1
    assert generate(["write", str(tmp_path)]) == 0
    assert generate(["check", str(tmp_path)]) == 0
    assert generate([]) == 2
