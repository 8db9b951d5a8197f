from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from unicornd.config.amounts import format_duration, parse_duration, parse_mode, parse_size
from unicornd.config.texts import AddressText, ImportText, Networks, StatsdText
from unicornd.config.values import Address, ImportString, Statsd, parse_statsd, quoted

ADDRESSES = {
    "127.0.0.1:8000": Address(kind="tcp", host="127.0.0.1", port=8000),
    "tcp://127.0.0.1:80": Address(kind="tcp", host="127.0.0.1", port=80),
    ":80": Address(kind="tcp", host="0.0.0.0", port=80),
    "Example.ORG": Address(kind="tcp", host="example.org", port=8000),
    "[::1]:81": Address(kind="tcp", host="::1", port=81),
    "[::]": Address(kind="tcp", host="::", port=8000),
    "unix:/run/x.sock": Address(kind="unix", path="/run/x.sock"),
    "unix:///run/x.sock": Address(kind="unix", path="/run/x.sock"),
    "unix:@shop": Address(kind="abstract", path="shop"),
    "fd://3": Address(kind="fd", name="3"),
    "fd://web": Address(kind="fd", name="web"),
    "fd://": Address(kind="fd"),
}


@pytest.mark.parametrize(("text", "address"), ADDRESSES.items(), ids=str)
def test_an_address_is_read(text: str, address: Address) -> None:
    assert Address.parse(text) == address


@pytest.mark.parametrize("address", ADDRESSES.values(), ids=str)
def test_an_address_is_written_so_that_it_is_read_again(address: Address) -> None:
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("8000", '":8000"'),
        ("unix:", "path"),
        ("unix:@", "path"),
        ("::1", "brackets"),
        ("host:99999", "65535"),
        ("host:x", "port"),
        ("host:²", "port"),
        ("a b:1", "HOST:PORT"),
        ("/run/x.sock", "unix:PATH"),
        ("", 'got ""'),
        ("tcp://", "HOST:PORT"),
        ("http://h:80", "unix:PATH"),
        ("fd:3", '"fd://3"'),
        ("-7", "expected HOST:PORT"),
        ("-x:80", "expected HOST:PORT"),
        ("unix", "unix:PATH"),
        ("unix:/a\0b", "path"),
        ("[]:80", "HOST:PORT"),
        ("[::1]x:80", "HOST:PORT"),
        ("[::g]:80", "IPv6"),
        ('a"b:80', "HOST:PORT"),
    ],
)
def test_a_wrong_address_says_what_was_expected(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        Address.parse(text)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (30, 30.0),
        (0.5, 0.5),
        (0, 0.0),
        ("30s", 30.0),
        ("500ms", 0.5),
        ("5m", 300.0),
        ("1.5h", 5400.0),
        ("1d", 86400.0),
    ],
)
def test_a_duration_is_read(value: object, seconds: float) -> None:
    assert parse_duration(value) == seconds


@pytest.mark.parametrize(
    "value",
    [
        "soon",
        "30",
        "",
        True,
        None,
        -1,
        "-1s",
        float("inf"),
        float("nan"),
        [],
        "1 s",
        10**400,
        "9" * 400 + "d",
    ],
)
def test_what_is_no_duration_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (30, "30s"),
        (90.0, "90s"),
        (3600, "1h"),
        (0.5, "500ms"),
        (1e-8, "0.00001ms"),
        (172800, "2d"),
    ],
)
def test_a_duration_is_written_in_the_largest_unit_that_fits(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "size"),
    [(0, 0), (65536, 65536), ("64KiB", 65536), ("1 GiB", 2**30), ("2MB", 2_000_000), ("7", 7)],
)
def test_a_size_is_read(value: object, size: int) -> None:
    assert parse_size(value) == size


@pytest.mark.parametrize("value", ["big", "1.5MiB", -1, True, None, "-1"])
def test_what_is_no_size_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_size(value)


def test_wrong_values_are_repeated_on_one_line_and_not_at_length() -> None:
    assert quoted("a\u2028b\n") == '"a\\u2028b\\n"'
    assert len(quoted("x" * 999)) < 70


@pytest.mark.parametrize("value", [600, "0680", "rw-------", "", None, "60", "000600"])
def test_what_is_no_mode_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="octal"):
        parse_mode(value)


def test_modes_are_octal_with_and_without_a_prefix() -> None:
    assert parse_mode("0600") == parse_mode("600") == parse_mode("0o600") == 0o600


IMPORTS = {
    "shop.wsgi": ImportString(module="shop.wsgi"),
    "shop.wsgi:application": ImportString(module="shop.wsgi", attribute="application"),
    "shop:site.app": ImportString(module="shop", attribute="site.app"),
    "shop:create_app()": ImportString(module="shop", attribute="create_app", arguments=()),
    "shop:create_app('prod', debug=False)": ImportString(
        module="shop", attribute="create_app", arguments=("prod",), keywords=(("debug", False),)
    ),
    "./app.py:app": ImportString(module="./app.py", attribute="app"),
}


@pytest.mark.parametrize(("text", "imported"), IMPORTS.items(), ids=str)
def test_an_import_string_is_read_and_written(text: str, imported: ImportString) -> None:
    assert ImportString.parse(text) == imported
    assert str(imported) == text
    assert imported.is_file == (".py" in text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":app",
        "shop wsgi:app",
        "a-b:app",
        "shop:1",
        "shop:a b",
        "shop:f(x)",
        "shop:f(**{})",
        "shop:f()()",
        "shop:f(",
        "shop:(1).x",
    ],
)
def test_what_is_no_import_string_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        ImportString.parse(text)


ADAPTERS = {"networks": TypeAdapter[Any](Networks), "statsd": TypeAdapter[Any](StatsdText)}


@pytest.mark.parametrize(
    ("value", "networks"),
    [
        (["127.0.0.1", "10.0.0.0/8", "::1", "fd00::/8"], ("127.0.0.1", "10.0.0.0/8", "::1", "fd00::/8")),
        ("127.0.0.1, ::1,", ("127.0.0.1", "::1")),
        ("*", ("*",)),
        (["*"], ("*",)),
        ((), ()),
        ("", ()),
    ],
)
def test_networks_are_read_from_a_list_or_a_text_with_commas(
    value: object, networks: tuple[str, ...]
) -> None:
    assert ADAPTERS["networks"].validate_python(value) == networks


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("10.0.0.1/8", "has host bits set"),
        (["localhost"], "'localhost' does not appear to be"),
        (["1.1.1.1", 3], 'expected addresses and networks such as ["127.0.0.1", "10.0.0.0/8"]'),
        (3, "expected addresses and networks"),
        (None, "expected addresses and networks"),
    ],
)
def test_what_is_no_network_is_refused(value: object, says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ADAPTERS["networks"].validate_python(value)
    assert says in str(caught.value)


STATSD = {
    "localhost": Statsd(host="localhost", port=8125),
    "127.0.0.1:9125": Statsd(host="127.0.0.1", port=9125),
    "[::1]:9125": Statsd(host="::1", port=9125),
    "[::1]": Statsd(host="::1", port=8125),
    "unix:/run/statsd.sock": Statsd(path="/run/statsd.sock"),
    "unix:///run/statsd.sock": Statsd(path="/run/statsd.sock"),
}


@pytest.mark.parametrize(("text", "statsd"), STATSD.items(), ids=str)
def test_where_metrics_go_is_read_and_written(text: str, statsd: Statsd) -> None:
    assert ADAPTERS["statsd"].validate_python(text) == statsd
    assert parse_statsd(str(statsd)) == statsd
    assert ADAPTERS["statsd"].validate_python(statsd) is statsd


@pytest.mark.parametrize(
    "text", ["", ":8125", "host:0", "host:99999", "host:x", "unix:", "a b", "::1", "http://h:1"]
)
def test_what_is_no_place_for_metrics_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_statsd(text)


@pytest.mark.parametrize("form", [AddressText, ImportText, StatsdText], ids=["address", "import", "statsd"])
@pytest.mark.parametrize("table", [{}, {"kind": "tcp", "host": "x", "module": "x"}])
def test_a_table_is_no_value_that_is_written_as_text(form: Any, table: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="expected text in quotes, got"):
        TypeAdapter[Any](form).validate_python(table)
