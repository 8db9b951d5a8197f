"""WSGI or ASGI, told from the callable."""

from __future__ import annotations

import functools
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from unicornd.errors import AppError
from unicornd.http.errors import Refusal
from unicornd.workers.asgi.proxies import Proxies
from unicornd.workers.interface import check_served, chosen_interface, interface_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from unicornd.config.kinds import Interface

SECURE = {"X-FORWARDED-PROTO": "https", "X-Forwarded-Ssl": "on"}


async def asgi(_scope: Any, _receive: Any, _send: Any) -> None: ...


def asgi_plain(scope: Any, receive: Any, send: Any) -> Any:
    return asgi(scope, receive, send)


def wsgi(_environ: Any, _start_response: Any) -> Any: ...


class AsyncCall:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class WsgiCall:
    def __call__(self, environ: Any, start_response: Any) -> Any: ...


class WsgiClass:
    def __init__(self, environ: Any, start_response: Any) -> None: ...


class AsgiClass:
    def __init__(self, scope: Any, receive: Any, send: Any) -> None: ...


class Asgi2Class:
    def __init__(self, scope: Any) -> None: ...


class WithMethods:
    async def asgi(self, scope: Any, receive: Any, send: Any) -> None: ...
    def wsgi(self, environ: Any, start_response: Any) -> Any: ...


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def inner(*arguments: Any) -> Any:
        return function(*arguments)

    return inner


@pytest.mark.parametrize(
    ("app", "expected"),
    [
        (asgi, "asgi"), (asgi_plain, "asgi"), (AsyncCall(), "asgi"), (AsgiClass, "asgi"),
        (WithMethods().asgi, "asgi"), (functools.partial(asgi), "asgi"), (decorated(asgi), "asgi"),
        (wsgi, "wsgi"), (WsgiCall(), "wsgi"), (WsgiClass, "wsgi"), (WithMethods().wsgi, "wsgi"),
        (decorated(wsgi), "wsgi"), (functools.partial(wsgi), "wsgi"), (lambda *_: None, "wsgi"),
        (lambda _environ, _start=None: None, "wsgi"), (print, "wsgi"), (AsyncCall, "wsgi"),
        (Asgi2Class, "asgi2"), (lambda _scope: asgi, "asgi2"),
    ],
)  # fmt: skip
def test_the_interface_shows_in_the_callable(app: Callable[..., Any], expected: str) -> None:
    assert interface_of(app) == expected


def test_frameworks_are_told_apart() -> None:
    from fastapi import FastAPI  # noqa: PLC0415 - slow to import
    from flask import Flask  # noqa: PLC0415
    from litestar import Litestar  # noqa: PLC0415
    from quart import Quart  # noqa: PLC0415
    from starlette.applications import Starlette  # noqa: PLC0415

    assert {interface_of(app) for app in (FastAPI(), Starlette(), Litestar(), Quart("x"))} == {"asgi"}
    assert interface_of(Flask("x")) == "wsgi"
    for name, expected in (("ASGIHandler", "asgi"), ("WSGIHandler", "wsgi")):
        django = import_module(f"django.core.handlers.{expected}")  # has no types
        assert interface_of(object.__new__(getattr(django, name))) == expected


@pytest.mark.parametrize(
    ("app", "said", "expected"),
    [(asgi, "auto", "asgi"), (wsgi, "auto", "wsgi"), (asgi, "asgi", "asgi"), (Asgi2Class, "wsgi", "wsgi")],
)
def test_what_is_said_has_to_be_so(app: Any, said: Interface, expected: str) -> None:
    assert chosen_interface(app, said, target="shop:app") == expected


@pytest.mark.parametrize(("app", "said"), [(asgi, "wsgi"), (wsgi, "asgi"), (Asgi2Class, "auto")])
def test_another_interface_is_refused_with_what_to_set(app: Any, said: Interface) -> None:
    with pytest.raises(AppError) as caught:
        chosen_interface(app, said, target="shop:app")
    assert "shop:app" in caught.value.message
    assert caught.value.hint


def test_a_kind_that_serves_the_other_interface_is_refused() -> None:
    check_served("sync", "wsgi", app="wsgi", target="shop:app")
    with pytest.raises(AppError, match='"asgi" serves ASGI, and the application is WSGI'):
        check_served("asgi", "asgi", app="wsgi", target="shop:app")
    with pytest.raises(AppError, match='"gevent" serves WSGI, and the application is ASGI'):
        check_served("gevent", "wsgi", app="asgi", target="shop:app")


@pytest.mark.parametrize(
    ("trusted", "headers", "client", "scheme"),
    [
        (["127.0.0.1"], [(b"x-forwarded-for", b"1.2.3.4")], ("1.2.3.4", 0), "http"),
        (["127.0.0.1"], [(b"x-forwarded-for", b"6.6.6.6, 1.2.3.4:99, 127.0.0.1")], ("1.2.3.4", 99), "http"),
        (
            ["10.0.0.0/8"],
            [(b"x-forwarded-for", b"1.2.3.4"), (b"x-forwarded-for", b"10.1.1.1")],
            ("1.2.3.4", 0),
            "http",
        ),
        (["*"], [(b"x-forwarded-for", b"1.2.3.4, 5.6.7.8")], ("1.2.3.4", 0), "http"),
        (["::1"], [(b"x-forwarded-for", b"[2001:db8::1]:80")], ("2001:db8::1", 80), "http"),
        (["::1"], [(b"x-forwarded-for", b"2001:db8::1")], ("2001:db8::1", 0), "http"),
        (["::1"], [(b"x-forwarded-for", b"  ")], None, "http"),
        (["::1"], [(b"x-forwarded-proto", b" HTTPS ")], None, "https"),
        (["::1"], [(b"x-forwarded-proto", b"gopher"), (b"host", b"x")], None, "http"),
        (["::1"], [(b"x-forwarded-proto", b"wss")], None, "https"),
        (["::1"], [(b"x-forwarded-ssl", b"on"), (b"x-forwarded-proto", b"https")], None, "https"),
        (["::1"], [(b"x-forwarded-protocol", b"ssl")], None, "http"),
        (["127.0.0.1"], [(b"x-forwarded-for", b"127.0.0.1")], ("127.0.0.1", 0), "http"),
    ],
)
def test_what_a_trusted_peer_says_of_client_and_scheme(
    trusted: list[str], headers: list[tuple[bytes, bytes]], client: Any, scheme: str
) -> None:
    scope: dict[str, Any] = {"type": "http", "scheme": "http", "client": None}
    Proxies(trusted, SECURE).believe(scope, headers)
    assert (scope["client"], scope["scheme"]) == (client, scheme)


def test_a_peer_that_contradicts_itself_is_not_believed() -> None:
    scope: dict[str, Any] = {"type": "http", "scheme": "http", "client": None}
    said = [(b"x-forwarded-ssl", b"on"), (b"x-forwarded-proto", b"http"), (b"x-forwarded-for", b"1.2.3.4")]
    with pytest.raises(Refusal, match="contradict"):
        Proxies(["*"], SECURE).believe(scope, said)
    assert (scope["client"], scope["scheme"]) == (None, "http")


def test_a_websockets_scheme_is_one_of_its_own() -> None:
    scope: dict[str, Any] = {"type": "websocket", "scheme": "ws", "client": None}
    Proxies(["*"], SECURE).believe(scope, [(b"x-forwarded-proto", b"https")])
    assert scope["scheme"] == "wss"


def test_who_is_trusted() -> None:
    trust = Proxies(["127.0.0.1", "10.0.0.0/8", "::1"], SECURE)
    assert all(trust.has(host) for host in ("127.0.0.1", "10.9.9.9", "::1", "::ffff:10.1.1.1", None))
    assert not any(trust.has(host) for host in ("127.0.0.2", "11.0.0.1", "", "nonsense"))
    assert Proxies(["*"], SECURE).has("anybody")
