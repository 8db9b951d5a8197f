"""Text → value → text → value: nothing that an operator can write changes by being shown and read again."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unicornd.config.amounts import (
    MAX_SECONDS,
    format_duration,
    format_mode,
    format_size,
    parse_duration,
    parse_mode,
    parse_size,
)
from unicornd.config.values import MAX_PORT, Address, ImportString

if TYPE_CHECKING:
    from ipaddress import IPv6Address

NAMES = st.text(string.ascii_lowercase, min_size=1, max_size=8)
PORTS = st.integers(0, MAX_PORT)
HOSTS = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
    NAMES.map(lambda name: f"www.{name}-1"),
)
PATHS = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20
).map(lambda text: f"/{text}")
ADDRESSES = st.one_of(
    st.builds(lambda host, port: Address(kind="tcp", host=host, port=port), HOSTS, PORTS),
    PATHS.filter(lambda path: not path.startswith("//")).map(lambda path: Address(kind="unix", path=path)),
    PATHS.map(lambda path: Address(kind="abstract", path=path)),
    st.one_of(st.just(""), NAMES, st.integers(3, 99).map(str)).map(
        lambda name: Address(kind="fd", name=name)
    ),
)
LITERALS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=2) | st.tuples(inner),
    max_leaves=4,
)
IMPORTS = st.one_of(
    st.builds(
        lambda module, name: ImportString(module=module, attribute=f"x{name}"),
        NAMES.map("m.x{}".format),
        NAMES,
    ),
    st.builds(
        lambda arguments, keywords: ImportString(
            module="./app.py",
            attribute="make.app",
            arguments=tuple(arguments),
            keywords=tuple((f"k{key}", value) for key, value in keywords.items()),
        ),
        st.lists(LITERALS, max_size=2),
        st.dictionaries(NAMES, LITERALS, max_size=2),
    ),
)


@given(address=ADDRESSES)
def test_an_address_is_read_back_as_it_was_written(address: Address) -> None:
    assert Address.parse(str(address)) == address


@given(text=st.text(max_size=20) | st.from_regex(r"\A[\w.:\[\]/@%-]{0,20}\Z"))
def test_any_text_is_an_address_that_is_stable_or_a_value_error(text: str) -> None:
    try:
        address = Address.parse(text)
    except ValueError as error:
        assert str(error).startswith("expected ")  # noqa: PT017 - both ways are right
    else:
        assert Address.parse(str(address)) == address
        assert 0 <= address.port <= MAX_PORT


@given(host=st.ip_addresses(v=6))
def test_an_ipv6_address_without_brackets_is_refused_with_the_brackets_it_needs(host: IPv6Address) -> None:
    with pytest.raises(ValueError, match=r"brackets: \[") as caught:
        Address.parse(str(host))
    said = str(caught.value).rpartition(" ")[2]
    assert Address.parse(said).host == str(host)


@given(seconds=st.floats(0, MAX_SECONDS, exclude_max=True) | st.integers(0, MAX_SECONDS - 1))
def test_a_duration_is_read_back_exactly(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == parse_duration(seconds) == seconds


@given(value=st.integers() | st.floats() | st.text(max_size=12) | st.booleans() | st.none())
def test_any_value_is_a_duration_within_bounds_or_a_value_error(value: object) -> None:
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        assert str(error).startswith("expected a duration")  # noqa: PT017 - both ways are right
    else:
        assert 0 <= seconds < MAX_SECONDS


@given(size=st.integers(0, 2**63))
def test_a_size_is_read_back_exactly(size: int) -> None:
    assert parse_size(format_size(size)) == parse_size(size) == size


@given(mode=st.integers(0, 0o7777))
def test_a_mode_is_read_back_exactly(mode: int) -> None:
    assert parse_mode(format_mode(mode)) == mode


@given(imported=IMPORTS)
def test_an_import_string_is_read_back_as_it_was_written(imported: ImportString) -> None:
    assert ImportString.parse(str(imported)) == imported


@given(text=st.text(max_size=20) | st.from_regex(r"\A[a-z.]{1,5}:[a-z.(),='\[\]*]{0,10}\Z"))
def test_any_text_is_an_import_string_or_a_value_error(text: str) -> None:
    try:
        imported = ImportString.parse(text)
    except ValueError as error:
        assert str(error).startswith("expected ")  # noqa: PT017 - both ways are right
    else:
        assert ImportString.parse(str(imported)) == imported
