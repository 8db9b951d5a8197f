from __future__ import annotations

import io
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unicornd.cli import predicates
from unicornd.cli.commands.change import COUNT
from unicornd.cli.ctl import COMMANDS, GLOBAL_OPTIONS, check_values, command_of, gather_options, run
from unicornd.cli.exits import report, system_error
from unicornd.cli.instances import Choice, find_client
from unicornd.control.client import ControlError
from unicornd.control.wording import MOST_LINES, condensed, duration, percent, plural, size
from unicornd.errors import AppError, ConfigError, CtlExit

WORDS = st.sampled_from(
    ["scale", "-1", "+2", "status", "--save", "-c", "--json", "--config=x", "--socket", "config", "x"]
)


@pytest.mark.parametrize(
    ("given_arguments", "expected"),
    [
        ("status -c f.toml", "-c f.toml status"),
        ("-c f.toml status", "-c f.toml status"),
        ("--config=f.toml reload --no-wait", "-c f.toml reload --no-wait"),
        ("scale -1 --json --socket=/s", "--json --socket /s scale -1"),
        ("--json config show -c f.toml", "config show --json -c f.toml"),
        ("scale -- --json", "scale -- --json"),
        ("status --config", "-c  status"),
        ("", ""),
    ],
)
def test_options_of_every_command_may_stand_anywhere(given_arguments: str, expected: str) -> None:
    assert gather_options(given_arguments.split()) == (expected.split(" ") if expected else [])


@given(st.lists(WORDS, max_size=8))
def test_no_word_is_lost_and_gathering_twice_changes_nothing_more(words: list[str]) -> None:
    once = gather_options(words)
    assert gather_options(once) == once
    assert sum("status" in word for word in once) == sum("status" in word for word in words)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [("-c status scale 4", "scale"), ("--json is-ready", "is-ready"), ("--help", ""), ("", ""), ("-c", "")],
)
def test_the_command_is_the_first_word_that_is_no_option(arguments: str, name: str) -> None:
    assert command_of(gather_options(arguments.split())) == name


@pytest.mark.parametrize(
    "arguments",
    ["stop -c", "-c", "reload --socket=", "is-ready --instance", "config check -c", "config diff --socket="],
)
def test_an_option_without_its_value_means_no_other_fleet(
    arguments: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments.split()) == CtlExit.USAGE
    assert "has no value" in capsys.readouterr().err


def test_an_empty_value_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["stop", "--instance", ""]) == CtlExit.USAGE
    assert "--instance has no value" in capsys.readouterr().err


def test_what_stands_behind_two_hyphens_is_no_option_of_ours() -> None:
    check_values(["config", "import", "--", "-c"])


def test_every_command_has_its_module_and_no_predicate_is_one() -> None:
    assert not set(COMMANDS) & set(predicates.ABOUT)
    folder = Path(sys.modules["unicornd.cli.ctl"].__file__ or "").parent / "commands"
    assert all((folder / f"{module}.py").exists() for module in COMMANDS.values())
    assert set(GLOBAL_OPTIONS.values()) == {"-c", "--socket", "--instance"}


@pytest.mark.parametrize(
    ("text", "is_count"),
    [("8", True), ("+2", True), ("-1", True), ("0", True), ("-5", True), ("100000", True),
     ("", False), ("many", False), ("2.5", False), ("--save", False), ("1e3", False), ("\u0661", False), ("9" * 20, False)],
)  # fmt: skip
def test_a_count_is_digits_with_or_without_a_sign(text: str, *, is_count: bool) -> None:
    assert bool(COUNT.fullmatch(text)) is is_count


# Errors.


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ControlError("it is busy", code=CtlExit.BUSY, hint="wait"), 8),
        (ConfigError("it is wrong", hint="wait"), 78),
        (AppError("it is missing", hint="wait"), 1),
    ],
)
def test_an_error_becomes_a_message_a_hint_and_an_exit_code(error: ControlError, code: int) -> None:
    stream = io.StringIO()
    assert report(error, stream=stream) == code
    first, *_, last = stream.getvalue().splitlines()
    assert first == f"unicornctl: {error.message}"
    assert last == "  wait"


def test_every_line_of_the_detail_is_shown() -> None:
    stream = io.StringIO()
    report(ConfigError("two errors", detail="a.toml:1: x\n\na.toml:2: y"), stream=stream)
    assert stream.getvalue() == "unicornctl: two errors\n  a.toml:1: x\n\n  a.toml:2: y\n"


# Which fleet.


def test_a_socket_that_was_named_is_taken_as_it_is() -> None:
    assert find_client(Choice(socket="/x", config="y")).address == "/x"


def test_a_file_that_is_not_there_is_an_error_of_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(ControlError) as caught:
        find_client(Choice(config=str(tmp_path / "missing.toml")))
    assert caught.value.code is CtlExit.CONFIG
    assert "missing.toml" in caught.value.message


def test_a_file_that_cannot_be_looked_at_is_an_error_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ControlError, match="not a directory") as caught:
        find_client(Choice(config=str(tmp_path / "file" / "unicornd.toml")))
    assert caught.value.code is CtlExit.CONFIG


def test_the_socket_of_a_file_is_found_where_somebody_answers(tmp_path: Path) -> None:
    file = tmp_path / "unicornd.toml"
    file.write_text(f'[control]\nsocket = "{tmp_path}/own.sock"\n')
    with pytest.raises(ControlError) as caught:
        find_client(Choice(config=str(file)))
    assert caught.value.code is CtlExit.NOT_RUNNING
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "own.sock"))
        listener.listen()
        assert find_client(Choice(config=str(file))).address == str(tmp_path / "own.sock")


@pytest.mark.parametrize(
    ("error", "says", "code"),
    [
        (PermissionError(13, "Permission denied", "/etc/x"), "/etc/x: permission denied", CtlExit.PERMISSION),
        (FileNotFoundError(2, "No such file or directory"), "the working directory: no such", CtlExit.FAILED),
        (OSError("odd"), "odd", CtlExit.FAILED),
    ],
)
def test_what_the_system_refuses_is_a_message_and_no_traceback(
    error: OSError, says: str, code: CtlExit
) -> None:
    told = system_error(error)
    assert says in told.message
    assert told.code is code


# Predicates.


@pytest.mark.parametrize(
    "arguments",
    [["--wat"], ["--wait", "soon"], ["--wait", "nan"], ["--wait", "-1"], ["--wait", "inf"], ["extra"]],
)
def test_a_predicate_that_is_asked_wrongly_ends_with_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert predicates.main(["is-ready", *arguments]) == CtlExit.USAGE
    assert arguments[-1] in capsys.readouterr().err


@pytest.mark.parametrize("name", predicates.ABOUT)
def test_a_predicate_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "--help"]) == 0
    assert name in capsys.readouterr().out


@pytest.mark.parametrize("name", predicates.ABOUT)
def test_where_nothing_runs_predicates_end_with_3(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--socket", "/nonexistent/x.sock", name]) == CtlExit.NOT_RUNNING
    assert "nothing is running" in capsys.readouterr().err
    assert run([name, "--socket=/nonexistent/x.sock", "--quiet"]) == CtlExit.NOT_RUNNING
    assert capsys.readouterr().err == ""


def test_predicates_import_nothing_heavy() -> None:
    code = "import sys, unicornd.cli.ctl; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"typer", "rich", "pydantic", "argparse", "http.client", "asyncio"} & set(loaded)


# Wording.


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.0121, "12ms"), (0.9996, "1.0s"), (4.25, "4.2s"), (9.96, "9s"), (48.9, "48s"), (60, "1m"),
     (725, "12m 5s"), (3600, "1h"), (3725, "1h 2m"), (90_000, "1d 1h"), (277_000, "3d 4h")],
)  # fmt: skip
def test_durations_have_at_most_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 kB"), (98 << 20, "98 MB"), (3 << 30, "3.0 GB")],
)
def test_sizes_have_two_digits_at_least(count: int, text: str) -> None:
    assert size(count) == text


def test_one_is_not_many() -> None:
    assert (plural(1, "worker"), plural(2, "worker"), plural(1234, "request")) == (
        "1 worker",
        "2 workers",
        "1,234 requests",
    )


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["is-running", "--socket", "/nonexistent", "--json"], CtlExit.NOT_RUNNING),
        (["is-running", "--socket", "/nonexistent", "--json", "--quiet"], CtlExit.NOT_RUNNING),
        (["is-ready", "--wat", "--json"], CtlExit.USAGE),
        (["status", "--socket", "/nonexistent", "--json"], CtlExit.NOT_RUNNING),
        (["stop", "--wat", "--json"], CtlExit.USAGE),
        (["no-such-command", "--json"], CtlExit.USAGE),
        (["--json"], CtlExit.USAGE),
        (["scale", "many", "--json"], CtlExit.USAGE),
        (["-c", "", "status", "--json"], CtlExit.USAGE),
        (["config", "check", "-c", "/nonexistent.toml", "--json"], CtlExit.CONFIG),
        (["start", "-c", "/nonexistent.toml", "--json"], CtlExit.CONFIG),
    ],
)
def test_with_json_an_error_is_one_document_too(
    arguments: list[str], code: CtlExit, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == code
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == 1
    assert document["error"]["exit_code"] == code
    assert document["error"]["message"]


@pytest.mark.parametrize("group", [[], ["config"]], ids=["unicornctl", "unicornctl config"])
def test_no_summary_in_the_help_is_cut(group: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*group, "--help"]) == CtlExit.DONE
    text = capsys.readouterr().out
    assert "Commands:" in text
    assert "..." not in text.partition("Commands:")[2]


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(0, 0, "0%"), (0, 9, "0%"), (1, 10**6, "<0.1%"), (1, 999, "0.1%"), (99, 1000, "9.9%"), (12, 100, "12%"),
     (999, 1000, "99%"), (10, 10, "100%"), (3, 0, "300%")],
)  # fmt: skip
def test_a_share_rounds_neither_to_nothing_nor_to_everything(part: int, whole: int, text: str) -> None:
    assert percent(part, whole) == text


def test_a_long_traceback_is_shown_without_its_middle_and_other_texts_whole() -> None:
    frames = "".join(f"  frame {number}\n" for number in range(300))
    text = f"Traceback (most recent call last):\n{frames}ValueError: no\n"
    shown = condensed(text).splitlines()
    assert len(shown) == MOST_LINES + 1
    assert (shown[0], shown[4], shown[-1]) == (
        "Traceback (most recent call last):", "  … 262 lines more, which the log has", "ValueError: no",
    )  # fmt: skip
    assert condensed(frames) == frames
    assert condensed("") == ""
