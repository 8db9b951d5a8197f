"""gunicorn's settings: each one has exactly one row, and a row leads to a setting that is there."""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from typing import Any

import pytest

from unicornd.config import conversions as to
from unicornd.config.gunicorn import BY_NAME, ROWS, Row, kind_of, row_of_key, says_nothing
from unicornd.config.layers import split_key
from unicornd.config.validation import fields_of

SETTINGS: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent / "data" / "gunicorn_settings.json").read_text()
)
"""Name, type, default and flags of every setting of gunicorn 27.0.1."""


def name_of(row: Row) -> str:
    return row.name


def test_every_setting_of_the_release_has_exactly_one_row() -> None:
    names = [row.name for row in ROWS if not row.is_retired]
    assert len(SETTINGS) == 120
    assert sorted(names) == sorted(SETTINGS)
    assert len(BY_NAME) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_a_row_leads_to_settings_or_says_why_not(row: Row) -> None:
    for key in row.keys:
        parts = split_key(key)
        assert parts[-1] in fields_of(parts[:-1]) or parts[:-1] == ("app", "env")
    assert bool(row.keys) == (row.fate == "setting")
    assert bool(row.reason) == (row.fate != "setting")


@pytest.mark.parametrize("name", SETTINGS)
def test_a_row_has_the_flags_of_gunicorn(name: str) -> None:
    row, flags = BY_NAME[name], SETTINGS[name]["flags"]
    assert set(flags) <= set(row.flags)
    if row.flags and row.fate in {"setting", "command"}:
        assert row.about
        assert bool(row.metavar) == (row.form != "switch")


def test_no_flag_and_no_key_is_taken_twice() -> None:
    flags = [flag for row in ROWS for flag in row.flags]
    keys = [key for row in ROWS for key in row.keys]
    assert len(set(flags)) == len(flags)
    assert len(set(keys)) == len(keys)


def test_a_row_is_found_by_our_key() -> None:
    assert row_of_key("workers.count") is BY_NAME["workers"]
    assert row_of_key("timeouts.heartbeat") is BY_NAME["timeout"]
    assert row_of_key("app.env.LEVEL") is BY_NAME["raw_env"]
    assert row_of_key("reload.surge") is None


@pytest.mark.parametrize("name", [name for name, row in BY_NAME.items() if row.fate == "refused"])
def test_the_default_of_a_refused_setting_asks_for_nothing(name: str) -> None:
    default = None if SETTINGS[name]["type"] == "function" else SETTINGS[name]["default"]
    assert says_nothing(BY_NAME[name], default)
    assert says_nothing(BY_NAME[name], None)
    assert not says_nothing(BY_NAME[name], ["h2"])


KINDS = {
    "sync": "sync", "gthread": "threads", "threads": "threads", "gevent": "gevent", "gevent_wsgi": "gevent_pywsgi",
    "gevent_pywsgi": "gevent_pywsgi", "eventlet": "eventlet", "tornado": "tornado", "asgi": "asgi", "uvicorn": "asgi",
    "gunicorn.workers.sync.SyncWorker": "sync",
    "gunicorn.workers.gthread.ThreadWorker": "threads",
    "gunicorn.workers.ggevent.GeventWorker": "gevent",
    "gunicorn.workers.ggevent.GeventPyWSGIWorker": "gevent_pywsgi",
    "gunicorn.workers.geventlet.EventletWorker": "eventlet",
    "gunicorn.workers.gtornado.TornadoWorker": "tornado",
    "gunicorn.workers.gasgi.ASGIWorker": "asgi",
    "uvicorn.workers.UvicornWorker": "asgi",
    "uvicorn.workers:UvicornH11Worker": "asgi",
    "uvicorn_worker.UvicornWorker": "asgi",
    "egg:gunicorn#gevent": "gevent",
    " sync ": "sync",
    "shop.serving.Worker": "shop.serving:Worker",
    "shop.serving:Worker": "shop.serving:Worker",
    "./serving.py:Worker": "./serving.py:Worker",
    "gthraed": "gthraed",
}  # fmt: skip


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_a_kind_has_one_name_of_ours(name: str, kind: str) -> None:
    assert kind_of(name) == kind
    assert kind_of(kind) == kind


def test_an_entry_point_of_another_distribution_says_nothing_here() -> None:
    with pytest.raises(ValueError, match=r'expected a kind or a class such as "pkg\.mod:Class"'):
        kind_of("egg:other#worker")


CONVERTED = [
    ("workers", 4, 4),
    ("workers", "0x4", 4),
    ("workers", "auto", "auto"),
    ("workers", True, 1),
    ("timeout", "30", 30),
    ("timeout", "30s", "30s"),
    ("timeout", 2.5, 2.5),
    ("graceful_timeout", 0, 0.1),
    ("graceful_timeout", "0", 0.1),
    ("graceful_timeout", 7, 7),
    ("asgi_disconnect_grace_period", 0, 0.1),
    ("worker_class", "gthread", "threads"),
    ("worker_class", 3, 3),
    ("bind", "0.0.0.0:80", ["0.0.0.0:80"]),
    ("bind", ["a:1 ", "b:2"], ["a:1", "b:2"]),
    ("bind", None, []),
    ("bind", 8000, [8000]),
    ("raw_env", ["A=1", "B=x=y"], {"A": "1", "B": "x=y"}),
    ("raw_env", {"A": 1}, {"A": "1"}),
    ("raw_paste_global_conf", [r"a\=b=c\=d"], {"a=b": "c=d"}),
    ("pythonpath", "/a, /b,", ["/a", "/b"]),
    ("pythonpath", ["/a"], ["/a"]),
    ("forwarded_allow_ips", "*", ["*"]),
    ("forwarded_allow_ips", "", []),
    ("pidfile", Path("/run/x"), "/run/x"),
    ("pidfile", "", None),
    ("pidfile", 3, 3),
    ("user", 1000, "1000"),
    ("user", " www ", "www"),
    ("user", True, True),
    ("umask", 0o022, "0022"),
    ("umask", "022", "0022"),
    ("umask", "0o27", "0027"),
    ("umask", "0x12", "0022"),
    ("umask", "0", "0000"),
    ("umask", "18", "18"),
    ("umask", None, None),
    ("control_socket_mode", 0o660, "0660"),
    ("sendfile", "TRUE", True),
    ("sendfile", False, False),
    ("sendfile", 3, 3),
    ("daemon", "maybe", "maybe"),
    ("control_socket_disable", True, False),
    ("control_socket_disable", "false", True),
    ("control_socket_disable", "maybe", "maybe"),
    ("loglevel", "INFO", "info"),
    ("loglevel", 10, 10),
    ("proc_name", "Shop: web/1", "Shop--web-1"),
    ("proc_name", "-", None),
    ("proc_name", 3, 3),
    ("cert_reqs", ssl.CERT_REQUIRED, "required"),
    ("cert_reqs", "1", "optional"),
    ("cert_reqs", "none", "none"),
    ("cert_reqs", 7, 7),
    ("proxy_protocol", True, "auto"),
    ("proxy_protocol", False, "off"),
    ("proxy_protocol", "V2", "v2"),
    ("proxy_protocol", 1, "auto"),
    ("proxy_protocol", [], []),
    ("logger_class", "gunicorn.glogging.Logger", None),
    ("logger_class", "shop.logs.Logger", "shop.logs:Logger"),
    ("logger_class", 3, 3),
    ("on_exit", "shop.hooks.leave", "shop.hooks:leave"),
    ("on_exit", "shop.hooks:leave", "shop.hooks:leave"),
    ("logconfig_dict", {}, None),
    ("logconfig_dict", {"version": 1}, {"version": 1}),
    ("secure_scheme_headers", {"x-forwarded-proto": "https"}, {"X-FORWARDED-PROTO": "https"}),
    ("secure_scheme_headers", 3, 3),
    ("wsgi_app", " shop:app ", "shop:app"),
]


@pytest.mark.parametrize(("name", "value", "ours"), CONVERTED, ids=str)
def test_a_value_takes_our_form(name: str, value: object, ours: object) -> None:
    converted = BY_NAME[name].convert(value)
    assert (converted, type(converted)) == (ours, type(ours))


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("workers", 0, "0 workers answer nobody"),
        ("workers", "0", "expected 1 or more"),
        ("raw_env", ["A"], 'expected KEY=VALUE, got "A"'),
        ("raw_env", "=1", "expected KEY=VALUE"),
        ("worker_class", "egg:x#y", "expected a kind"),
    ],
)
def test_what_has_no_form_here_says_what_was_expected(name: str, value: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        BY_NAME[name].convert(value)


def test_gunicorns_words_for_the_proxy_protocol_are_known() -> None:
    assert {to.proxy_mode(word) for word in to.PROXY_WORDS} == {"off", "auto", "v1", "v2"}
