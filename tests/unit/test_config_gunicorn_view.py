"""Our settings under gunicorn's names."""

from __future__ import annotations

import json
import os
import pwd
import ssl
from pathlib import Path
from typing import Any

import pytest

from unicornd.config.gunicorn import ROWS
from unicornd.config.gunicorn_view import GunicornView
from unicornd.config.record import plain
from unicornd.config.resolved import under_their_names
from unicornd.config.settings import Settings

SETTINGS: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent / "data" / "gunicorn_settings.json").read_text()
)
OURS = frozenset(
    {"config", "sendfile", "chdir", "user", "group", "control_socket", "logger_class", "proc_name", "default_proc_name",
     "ssl_version", "forwarder_headers", "limit_request_line"}
)  # fmt: skip
"""What is of this process here, has no counterpart, or has another default."""
LISTS = frozenset(
    {"forwarded_allow_ips", "proxy_allow_ips", "uwsgi_allow_ips", "forwarder_headers", "http_protocols"}
)
"""Texts with commas, which gunicorn's own `cfg` has as lists."""


def view(text: str) -> GunicornView:
    return GunicornView(Settings.model_validate_json(text, strict=True), name="shop")


def test_every_name_is_there() -> None:
    cfg = view("{}")
    assert not [row.name for row in ROWS if not row.is_retired and not hasattr(cfg, row.name)]


def test_values_have_the_form_that_gunicorn_gives_them() -> None:
    cfg = view(
        '{"app": {"target": "shop:app", "env": {"A": "b"}}, "server": {"bind": ["127.0.0.1:81"]},'
        ' "workers": {"count": 3, "threads": 2},'
        ' "logging": {"logger_class": "shop.logs:Logger"}}'
    )
    assert (cfg.workers, cfg.worker_class, cfg.threads) == (3, "threads", 2)
    assert cfg.bind == ["127.0.0.1:81"]
    assert cfg.raw_env == ["A=b"]
    assert cfg.forwarded_allow_ips == ["127.0.0.1", "::1"]
    assert cfg.wsgi_app == "shop:app"
    assert cfg.logger_class == "shop.logs.Logger"
    assert (cfg.proc_name, cfg.is_ssl, cfg.accesslog) == ("shop", False, None)


def test_user_and_group_are_numbers_and_ours_if_none_are_set() -> None:
    cfg = view("{}")
    assert (cfg.user, cfg.group) == (cfg.uid, cfg.gid) == (os.geteuid(), os.getegid())
    daemon = pwd.getpwnam("daemon")
    cfg = view('{"process": {"user": "daemon", "name": "x"}}')
    assert (cfg.uid, cfg.gid, cfg.proc_name) == (daemon.pw_uid, daemon.pw_gid, "x")
    cfg = view(f'{{"process": {{"user": "{daemon.pw_uid}", "group": "root"}}}}')
    assert (cfg.uid, cfg.gid) == (daemon.pw_uid, 0)
    cfg = view('{"process": {"user": "4000000001", "group": "4000000002"}}')
    assert (cfg.uid, cfg.gid) == (4000000001, 4000000002)
    cfg = view('{"process": {"user": "nobody at all", "group": "no group"}}')
    assert (cfg.uid, cfg.gid) == ("nobody at all", "no group")


@pytest.mark.parametrize("name", [name for name in SETTINGS if name not in OURS])
def test_a_default_is_the_one_of_gunicorn(name: str) -> None:
    told = SETTINGS[name]
    default: object = None if told["type"] == "function" else told["default"]
    default = str(default).split(",") if name in LISTS else default
    value = getattr(view("{}"), name)
    assert (value, type(value)) == (default, type(default))


def test_values_that_are_set_have_gunicorns_form() -> None:
    cfg = view(
        '{"app": {"pythonpath": ["/a", "/b"], "paste_global": {"k": "v"}, "chdir": "/"}, "timeouts": {"request": 2.5},'
        ' "server": {"bind": [":81", "unix:/run/x", "unix:@x"]}, "process": {"umask": "0027"},'
        ' "metrics": {"statsd": "shop:1"}, "tls": {"cert_reqs": "required"}}'
    )
    assert (cfg.pythonpath, cfg.raw_paste_global_conf, cfg.paste_global_conf) == (
        "/a,/b",
        ["k=v"],
        {"k": "v"},
    )
    assert (cfg.timeout, cfg.umask, cfg.statsd_host, cfg.chdir) == (2.5, 0o27, ("shop", 1), "/")
    assert cfg.cert_reqs == ssl.CERT_REQUIRED
    assert cfg.address == [("0.0.0.0", 81), "/run/x", "unix:@x"]
    assert view('{"metrics": {"statsd": "unix:/run/x"}}').statsd_host == "/run/x"


def test_settings_can_be_asked_by_name() -> None:
    cfg = view('{"workers": {"count": 3}}')
    assert (cfg.settings["workers"].get(), cfg.settings["workers"].value, cfg.settings["workers"].name) == (
        3,
        3,
        "workers",
    )


def test_it_is_made_once_when_somebody_asks() -> None:
    settings = plain(Settings.model_validate_json('{"workers": {"count": 3}}', strict=True))
    cfg = under_their_names(settings, "shop")
    assert cfg() is cfg()
    assert (cfg().workers, cfg().proc_name) == (3, "shop")
