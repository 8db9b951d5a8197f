"""Which Host names the listener of [admin] answers to."""

from __future__ import annotations

import pytest

from unicornd.config.values import Address
from unicornd.control.exchange import Request
from unicornd.control.hosts import make_host_rule


def is_answered(host: str, *, bind: str = "0.0.0.0:9000", hosts: tuple[str, ...] = ()) -> bool:
    rule = make_host_rule(hosts, Address.parse(bind))
    refusal = rule.authorize(Request(method="GET", path="/", query={}, body=b"", host=host))
    assert refusal is None or (refusal.status == 421 and b"admin.hosts" in refusal.body)
    return refusal is None


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:9000", "10.1.2.3:9000", "10.1.2.3", "[::1]:9000", "[2001:db8::1]", "localhost", "LocalHost:9000",
        "localhost.:9000", "shop.localhost:9000", "",
    ],
)  # fmt: skip
def test_addresses_and_local_names_are_always_answered(host: str) -> None:
    assert is_answered(host)


@pytest.mark.parametrize(
    "host",
    ["attacker.example:9000", "127.0.0.1.attacker.example", "localhost.attacker.example", "notlocalhost",
     "0x7f000001", "10.1.2", "attacker.example.", "[attacker.example]"],
)  # fmt: skip
def test_a_name_that_nobody_has_declared_is_misdirected(host: str) -> None:
    assert not is_answered(host)


@pytest.mark.parametrize("host", ["metrics.internal", "Metrics.Internal:9000", "metrics.internal."])
def test_a_declared_name_and_that_of_bind_are_answered(host: str) -> None:
    assert is_answered(host, hosts=("metrics.INTERNAL",))
    assert is_answered(host, bind="metrics.internal:9000")
    assert is_answered(host, hosts=("*",))
    assert not is_answered(host, hosts=("internal",))


def test_at_a_unix_socket_any_name_is_answered() -> None:
    assert is_answered("whatever.example", bind="unix:/run/admin.sock")
