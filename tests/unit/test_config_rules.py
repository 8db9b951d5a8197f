"""Rules that span several keys, asked directly: whatever the models take or refuse at the moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from unicornd.config.draft import Draft
from unicornd.config.given import Origin
from unicornd.config.resolved import name_of
from unicornd.config.rules import RULES, Rule
from unicornd.config.settings import Settings
from unicornd.config.validation import examined, fields_of
from unicornd.config.values import ImportString

HOOK = ImportString(module="shop", attribute="context")
KEY, CERTIFICATE, AUTHORITIES = Path("key.pem"), Path("cert.pem"), Path("ca.pem")


def settings(**said: dict[str, Any]) -> Settings:
    plain = Settings()
    sections = {name: getattr(plain, name).model_copy(update=values) for name, values in said.items()}
    return plain.model_copy(update=sections)


def broken(**said: dict[str, Any]) -> list[str]:
    return [".".join(rule.keys[0]) for rule in RULES if rule.check(settings(**said))]


@pytest.mark.parametrize(
    ("said", "keys"),
    [
        ({}, []),
        ({"tls": {"keyfile": KEY}}, ["tls.keyfile"]),
        ({"tls": {"keyfile": KEY, "certfile": CERTIFICATE}}, []),
        ({"tls": {"keyfile": KEY}, "hooks": {"ssl_context": HOOK}}, []),
        ({"tls": {"cert_reqs": "required"}}, ["tls.cert_reqs"]),
        ({"tls": {"cert_reqs": "optional", "certfile": CERTIFICATE}}, ["tls.cert_reqs"]),
        ({"tls": {"cert_reqs": "required", "certfile": CERTIFICATE, "ca_certs": AUTHORITIES}}, []),
        ({"tls": {"cert_reqs": "required"}, "hooks": {"ssl_context": HOOK}}, []),
        ({"logging": {"config": {"version": 1}, "config_object": HOOK}}, ["logging.config_object"]),
        ({"logging": {"config_object": HOOK}}, []),
        ({"server": {"protocol": "uwsgi"}}, []),
        ({"proxy": {"protocol": "v2"}}, []),
        ({"server": {"protocol": "uwsgi"}, "proxy": {"protocol": "v2"}}, ["proxy.protocol"]),
    ],
    ids=str,
)
def test_a_rule_blames_the_key_that_somebody_said(said: dict[str, dict[str, Any]], keys: list[str]) -> None:
    assert broken(**said) == keys


def test_a_rule_names_keys_that_exist() -> None:
    for rule in RULES:
        for key in rule.keys:
            assert key[-1] in fields_of(key[:-1])


@pytest.mark.parametrize(
    ("address", "is_right"),
    [
        ("udp://localhost:514", True),
        ("tcp://[::1]:601", True),
        ("udp://", True),
        ("unix:///dev/log", True),
        ("unix:///dev/log#dgram", True),
        ("unix:///dev/log#stream", True),
        ("unix:///dev/log#x", False),
        ("unix://", False),
        ("/dev/log", False),
        ("localhost:514", False),
        ("udp://localhost:99999", False),
    ],
)
def test_an_address_of_syslog_has_one_of_three_forms(
    address: str,
    is_right: bool,  # noqa: FBT001 - the answer
) -> None:
    syslog = Settings().logging.syslog.model_copy(update={"address": address})
    assert broken(logging={"syslog": syslog}) == ([] if is_right else ["logging.syslog.address"])


PAIR = Rule(
    keys=(("workers", "threads"), ("workers", "count")),
    check=lambda settings: "too much" if settings.workers.threads == settings.workers.count else "",
)


def told(**workers: object) -> list[str]:
    draft = Draft()
    for line, (name, value) in enumerate(workers.items(), start=1):
        draft.put(("workers", name), value, origin=Origin(layer="file", where=f"x.toml:{line}"))
    return [fault.line for fault in examined(draft, rules=(PAIR,))[1]]


def test_a_broken_rule_is_told_in_its_place_among_wrong_values() -> None:
    assert told(connections=0, threads=3, count=3, max_requests=-1) == [
        "x.toml:1: workers.connections: expected 1 or more, got 0",
        "x.toml:2: workers.threads: too much",
        "x.toml:4: workers.max_requests: expected 0 or more, got -1",
    ]
    assert told(threads=3, count=3) == ["x.toml:1: workers.threads: too much"]
    assert not told(threads=3, count=2)


def test_a_rule_is_not_asked_about_a_value_that_is_wrong_itself() -> None:
    assert told(count=True, threads=1) == [
        'x.toml:1: workers.count: expected a whole number or "auto", got true'
    ]


def test_an_application_is_called_what_makes_it() -> None:
    shop = ImportString(module="shop", attribute="app")
    assert name_of(settings(app={"target": shop}).app) == "shop:app"
    assert name_of(settings(app={"paste": "shop.ini"}).app) == "shop.ini"
