"""Our settings under gunicorn's names."""

from __future__ import annotations

import os

from unicornd.config.gunicorn import ROWS
from unicornd.config.gunicorn_view import GunicornView
from unicornd.config.record import plain
from unicornd.config.resolved import under_their_names
from unicornd.config.settings import Settings


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
    assert cfg.forwarded_allow_ips == "127.0.0.1,::1"
    assert cfg.wsgi_app == "shop:app"
    assert cfg.logger_class == "shop.logs.Logger"
    assert (cfg.proc_name, cfg.is_ssl, cfg.accesslog) == ("shop", False, None)


def test_user_and_group_are_ours_if_none_are_set() -> None:
    cfg = view("{}")
    assert (cfg.user, cfg.group) == (os.geteuid(), os.getegid())
    cfg = view('{"process": {"user": "www-data", "group": "www-data", "name": "x"}}')
    assert (cfg.user, cfg.group, cfg.proc_name) == ("www-data", "www-data", "x")


def test_it_is_made_once_when_somebody_asks() -> None:
    settings = plain(Settings.model_validate_json('{"workers": {"count": 3}}', strict=True))
    cfg = under_their_names(settings, "shop")
    assert cfg() is cfg()
    assert (cfg().workers, cfg().proc_name) == (3, "shop")
