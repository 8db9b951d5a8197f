"""What a conversion returns, it returns again: our form is a form that gunicorn's could have had, or stays as it is."""

from __future__ import annotations

import json
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from unicornd.config.amounts import format_mode, parse_mode
from unicornd.config.gunicorn import ROWS, Row
from unicornd.config.instance import fitting_name

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
WORDS = st.sampled_from(
    [
        "true",
        "FALSE",
        "0",
        "1",
        "022",
        "0x10",
        "A=1",
        "a,b",
        "pkg.mod.func",
        "gthread",
        "*",
        "auto",
        "none",
        "v1",
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2**40) | TEXTS | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
TURNED = frozenset({"disable_redirect_access_to_syslog", "control_socket_disable"})
"""Switches that say the opposite here: converted twice, they are as they were."""


@settings(max_examples=300)
@given(row=st.sampled_from([row for row in ROWS if row.keys]), value=VALUES)
def test_any_value_is_converted_to_something_that_stays_or_is_a_value_error(row: Row, value: object) -> None:
    try:
        converted = row.convert(value)
    except ValueError as error:
        assert str(error).startswith("expected ")  # noqa: PT017 - both ways are right
        return
    json.dumps(converted)
    if converted is None:
        return
    again = row.convert(converted)
    assert (row.convert(again) if row.name in TURNED else again) == converted


@given(mode=st.integers(0, 0o7777))
def test_permission_bits_arrive_however_they_are_written(mode: int) -> None:
    [umask] = [row for row in ROWS if row.name == "umask"]
    for value in (mode, f"0{mode:o}", f"0o{mode:o}", f"0x{mode:x}", format_mode(mode)):
        assert parse_mode(umask.convert(value)) == mode


@given(text=TEXTS | st.text("aZ09 ._-/:", max_size=80))
def test_any_name_is_made_fit_for_an_instance(text: str) -> None:
    name = fitting_name(text)
    assert not name or re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name)
    assert fitting_name(name) == name
