from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from unicornd.config.flags import FlagError, read_command_line
from unicornd.config.kinds import kind_of
from unicornd.config.layers import load
from unicornd.config.loaded import Sources

if TYPE_CHECKING:
    from pathlib import Path


def said(*arguments: str) -> dict[str, str]:
    return {item.key: str(item.text).lower() for item in read_command_line(arguments).given}


def test_gunicorns_everyday_flags_are_understood() -> None:
    given = said(
        "-w", "4", "-b", ":80", "-k", "gthread", "--threads=8", "-t", "30", "-c", "x.toml", "-D", "-p", "x.pid",
        "--chdir", "/srv", "-e", "A=1", "--log-level", "debug", "shop:app",
    )  # fmt: skip
    assert given == {
        "workers.count": "4", "server.bind": ":80", "workers.kind": "threads", "workers.threads": "8",
        "timeouts.request": "30", "timeouts.heartbeat": "30", "process.daemon": "true", "process.pidfile": "x.pid",
        "app.chdir": "/srv", "app.env.A": "1", "logging.level": "debug", "app.target": "shop:app",
    }  # fmt: skip


def test_config_and_actions_are_no_settings() -> None:
    command = read_command_line(["--config=x.toml", "--check-config", "-h", "-v"])
    assert command.config == "x.toml"
    assert command.actions == {"check-config", "help", "version"}
    assert not command.given


def test_short_flags_may_be_joined_as_getopt_does() -> None:
    assert said("-Dw4", "-b:80") == {"process.daemon": "true", "workers.count": "4", "server.bind": ":80"}
    assert read_command_line(["-cx.toml"]).config == "x.toml"
    assert said("-e", "-x=1") == {"app.env.-x": "1"}
    assert said("-w=4", "-Db=:80", "-e-w=", "-e=A=1") == {
        "workers.count": "4", "process.daemon": "true", "server.bind": ":80", "app.env.-w": "", "app.env.A": "1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        (["--thread", "4"], {"workers.threads": "4"}),
        (["--graceful=9", "--access-logfi", "-"], {"timeouts.graceful": "9", "logging.access.file": "-"}),
        (["--limit-request-field_s", "-1"], {"http.max_header_size": "-1"}),
        (["--pre", "-w", "2"], {"app.preload": "true", "workers.count": "2"}),
        (["--limit-request-field-", "9"], {"http.max_header_size": "9"}),
        (["--paste", "x.ini"], {"app.paste": "x.ini"}),
    ],
    ids=" ".join,
)
def test_a_beginning_that_is_of_one_flag_only_is_taken_for_it_as_argparse_does(
    arguments: list[str], given: dict[str, str]
) -> None:
    assert said(*arguments) == given


def test_behind_two_dashes_no_word_is_a_flag() -> None:
    assert said("-w", "2", "--", "shop:app") == {"workers.count": "2", "app.target": "shop:app"}
    with pytest.raises(FlagError, match="two applications: shop:app and -D"):
        read_command_line(["--", "shop:app", "-D"])


def test_an_empty_value_is_a_value_and_does_not_swallow_the_next_word() -> None:
    given = said("--forwarder-headers", "", "--user=", "--bind", "", "shop:app")
    assert given == {
        "proxy.forwarder_headers": "[]", "process.user": "", "server.bind": "", "app.target": "shop:app",
    }  # fmt: skip


def test_quotes_are_part_of_a_text_as_gunicorn_has_it() -> None:
    flags = ["--access-logformat", '"%(r)s"', "--timeout", "2.5", "-n", "12"]
    settings = load(Sources(given=read_command_line(flags).given)).settings
    assert settings.logging.access.format == '"%(r)s"'
    assert (settings.timeouts.request, settings.process.name) == (2.5, "12")


def test_repeated_lists_add_up_repeated_values_do_not() -> None:
    settings = load(
        Sources(given=read_command_line(["-b", ":1", "-b", ":2", "-w", "1", "-w", "2"]).given)
    ).settings
    assert [address.port for address in settings.server.bind] == [1, 2]
    assert settings.workers.count == 2


def test_gevent_with_threads_is_gevent_however_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "c.py").write_text("worker_class = 'gevent'\nthreads = 20\nasgi_loop = 'auto'\n")
    (tmp_path / "t.py").write_text("threads = 20\n")

    def kind(
        *flags: str, environ: dict[str, str] | None = None, file: str | None = None
    ) -> tuple[str, int, int]:
        line = read_command_line(flags)
        config = tmp_path / file if file else None
        loaded = load(Sources(config_file=config, folder=tmp_path, given=line.given, environ=environ or {}))
        workers = loaded.settings.workers
        assert all("not needed: it has no effect on the kind" in note for note in loaded.notes)
        return kind_of(workers), workers.threads, len(loaded.notes)

    assert kind("-k", "gevent", "--threads", "20") == ("gevent", 1, 1)
    assert kind(environ={"GUNICORN_CMD_ARGS": "-k gevent --threads=20"}) == ("gevent", 1, 1)
    assert kind(file="c.py") == ("gevent", 1, 2)
    assert kind("-k", "gevent", file="t.py") == ("gevent", 1, 1)
    assert kind("-k", "gthread", file="c.py") == ("threads", 20, 1)
    assert kind("-k", "gevent", "--set", "workers.threads=20") == ("gevent", 20, 0), "ours is refused later"
    (tmp_path / "u.toml").write_text("[workers]\nthreads = 20\n")
    assert kind("-k", "gevent", file="u.toml") == ("gevent", 20, 0)


def test_sync_with_threads_means_threads_as_in_gunicorn() -> None:
    settings = load(Sources(given=read_command_line(["-k", "sync", "--threads", "4"]).given)).settings
    assert kind_of(settings.workers) == "threads"
    settings = load(Sources(given=read_command_line(["-k", "sync", "--threads", "1"]).given)).settings
    assert kind_of(settings.workers) == "sync"


def test_set_takes_any_key() -> None:
    assert said("--set", "timeouts.boot=9", "--set=app.target=a:b") == {
        "timeouts.boot": "9",
        "app.target": "a:b",
    }


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--wrokers", "4"], 'unknown flag --wrokers (did you mean "--workers"?)'),
        (["-z"], "unknown flag -z"),
        (["--daemon=false"], "--daemon takes no value"),
        (["--help=x"], "--help takes no value"),
        (["--zzzzzz"], "unknown flag --zzzzzz"),
        (
            ["--worker", "2"],
            "--worker may be --workers, --worker-class, --worker-connections, --worker-tmp-dir",
        ),
        (["-w"], "-w needs a value"),
        (["-c"], "-c needs a value"),
        (["a:b", "c:d"], "two applications: a:b and c:d"),
        (["--set", "x"], "--set needs KEY=VALUE"),
        (["-e", "=1"], '-e: expected KEY=VALUE, got "=1"'),
    ],
)
def test_a_wrong_command_line_says_what_is_wrong(arguments: list[str], says: str) -> None:
    with pytest.raises(FlagError) as caught:
        read_command_line(arguments)
    assert caught.value.message.startswith(says)
