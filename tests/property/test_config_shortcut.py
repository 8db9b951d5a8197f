"""The short way and the models: whatever is plainly right is exactly what pydantic makes of it."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unicornd.config.draft import Draft
from unicornd.config.explain import all_keys
from unicornd.config.given import Origin
from unicornd.config.record import Record, plain
from unicornd.config.shortcut import is_plain, settings_of
from unicornd.config.table import TABLE
from unicornd.config.validation import examined, is_rather_text

if TYPE_CHECKING:
    from unicornd.config.draft import Key
    from unicornd.config.table import Entry, Form

KEYS = all_keys()

# What a person may write, right and wrong, near to every form.
TEXTS = (
    st.sampled_from(
        [
            "", "0", "1", "auto", "all", "-", "true", "30s", "500ms", "5m", "0.5h", "1e3s", "64KiB", "1 GB", "1TB",
            "0600", "0o22", "8", "127.0.0.1:8000", ":80", "[::1]:0", "unix:/a/é", "unix:@x", "fd://3", "h:70000",
            "shop.wsgi:application", "shop:make('x', y=1)", "./a b.py:app", "a-b:c", "class:def", "shop:None",
            "threads", "sync", "gthread", "uvicorn.workers.UvicornWorker", "shop.kinds:Own", "nothing", "egg:x#y",
            "10.0.0.0/8", "10.0.0.1/8", "*", "127.0.0.1, ::1", "/a/b", "/a/b/", "/a\u00a0b", "http", "off", "none",
            "udp://localhost:514", "udp:/x", "info", "x\n", "x\0", "\u00e9", "\U0001f984", "statsd:8125", "unix:",
        ]
    )
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    | st.text(string.printable, max_size=12)
)  # fmt: skip
NUMBERS = st.sampled_from([-1, 0, 1, 2, 63, 64, 512, 513, 4096, 2**31, 2**63, 2**64, 10**30]) | st.integers()
REALS = st.floats() | st.sampled_from([0.0, -0.0, 0.1, 0.05, 1e-320, 1e22, 3e10, 3.5e10])
SCALARS = TEXTS | NUMBERS | REALS | st.booleans()
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(TEXTS, SCALARS, max_size=3)


def entry_of(key: Key) -> Entry:
    found: Any = TABLE
    for name in key:
        found = found[name]
    return found  # type: ignore[no-any-return]


def fitting(form: Form) -> st.SearchStrategy[Any]:
    """Return values that are likely to be right."""
    name, *limits = form
    numbers = st.integers(0, 600) | NUMBERS
    known: dict[object, st.SearchStrategy[Any]] = {
        "bool": st.booleans(),
        "choice": st.sampled_from(limits or [0]),
        "int": numbers,
        "duration": REALS | numbers | st.sampled_from(["30s", "500ms", "50ms", "1d"]),
        "size": numbers | st.sampled_from(["64KiB", "0", "10 MB"]),
        "texts": st.lists(TEXTS, max_size=3),
        "names": st.dictionaries(TEXTS, TEXTS, max_size=3),
        "networks": TEXTS | st.lists(st.sampled_from(["*", "::1", "10.0.0.0/8", "10.0.0.1/8"]), max_size=3),
        "addresses": TEXTS | st.lists(TEXTS, max_size=3),
    }
    return known.get(name, TEXTS)


def values_of(key: Key) -> st.SearchStrategy[Any]:
    forms = entry_of(key)[2]
    return st.one_of(*map(fitting, forms), VALUES) if forms else VALUES


SAID = st.lists(
    st.sampled_from(KEYS).flatmap(lambda key: st.tuples(st.just(key), values_of(key))),
    max_size=8,
)


def drafted(said: list[tuple[Key, Any]]) -> Draft:
    draft = Draft()
    for key, value in said:
        draft.put(key, value, origin=Origin(layer="file", where="unicornd.toml:1"))
    return draft


def known(record: Any, above: Key = ()) -> dict[Key, Any]:
    """Return everything that a record knows: values with their types, who said them, and the order of all that."""
    assert isinstance(record, Record)
    found: dict[Key, Any] = {above: (record.said, [name for name, _ in record])}
    for name, value in record:
        key = (*above, name)
        found.update(known(value, key) if isinstance(value, Record) else {key: (type(value), repr(value))})
    return found


@settings(max_examples=300)
@given(said=SAID)
def test_what_is_plainly_right_is_what_the_models_make_of_it(said: list[tuple[Key, Any]]) -> None:
    draft = drafted(said)
    short = settings_of(draft.values)
    if short is not None:
        long, faults = examined(draft)
        assert not faults
        assert long is not None
        assert known(short) == known(plain(long))


@pytest.mark.parametrize("key", KEYS, ids=".".join)
@settings(max_examples=30)
@given(data=st.data())
def test_each_setting_by_itself(key: Key, data: st.DataObject) -> None:
    value = data.draw(values_of(key))
    draft = drafted([(key, value)])
    short = settings_of(draft.values)
    if short is not None:
        assert is_plain(key, value)
        long, faults = examined(draft)
        assert not faults
        assert long is not None
        assert known(short) == known(plain(long))
        assert not is_rather_text(key, value, text="x")
