"""`unicornd.dataclass`: what the standard library's does, in the two forms that are made; held against it."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unicornd import dataclass as ours


def frozen_by(library: Any) -> Any:
    @library.dataclass(frozen=True, slots=True, kw_only=True)
    class Point:
        """Has a docstring."""

        x: int
        y: object = 0
        tags: list[int] = library.field(default_factory=list)

        @property
        def double(self) -> int:
            return 2 * self.x

    return Point


def open_by(library: Any) -> Any:
    @library.dataclass(slots=True)
    class Tally:
        count: int
        seen: list[int] = library.field(default_factory=list)

    return Tally


Frozen, TheirFrozen = frozen_by(ours), frozen_by(dataclasses)
Open, TheirOpen = open_by(ours), open_by(dataclasses)


@ours.dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """At the top of its module, where pickle finds it."""

    name: str
    inner: Nothing


@ours.dataclass(frozen=True, slots=True, kw_only=True)
class Nothing:
    """Declares no value."""


@given(st.integers(), st.one_of(st.none(), st.text(), st.integers()), st.integers(), st.text())
def test_two_are_equal_and_have_the_same_hash_when_their_values_are(
    x: int, y: object, other_x: int, other_y: str
) -> None:
    a, b = Frozen(x=x, y=(y,), tags=()), Frozen(x=other_x, y=(other_y,), tags=())
    theirs = TheirFrozen(x=x, y=(y,), tags=()), TheirFrozen(x=other_x, y=(other_y,), tags=())
    assert (a == b) is (theirs[0] == theirs[1])
    assert hash(a) == hash(theirs[0])
    assert a == Frozen(x=x, y=(y,), tags=())
    assert repr(a) == repr(theirs[0])
    assert a != theirs[0]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ((), {}),
        ((1,), {}),
        ((), {"y": 1}),
        ((), {"x": 1, "z": 2}),
        ((1, 2), {"x": 1}),
        ((), {"x": 1, "y": 2}),
    ],
)
def test_a_frozen_one_takes_and_refuses_what_theirs_does(given: Any, named: Any) -> None:
    assert told(Frozen, given, named) == told(TheirFrozen, given, named)


@pytest.mark.parametrize(
    ("given", "named"),
    [((), {}), ((1,), {}), ((1, [2]), {}), ((1,), {"count": 2}), ((1, [], 3), {}), ((), {"count": 4})],
)
def test_an_open_one_takes_and_refuses_what_theirs_does(given: Any, named: Any) -> None:
    assert told(Open, given, named) == told(TheirOpen, given, named)


def told(cls: Any, given: Any, named: Any) -> str:
    try:
        return repr(cls(*given, **named))
    except TypeError:
        return "TypeError"


def test_it_is_refused_before_and_after_the_first_value() -> None:
    Point = frozen_by(ours)  # noqa: N806 - a class
    for _ in range(2):
        with pytest.raises(TypeError, match="x"):
            Point(y=1)
        assert Point(x=1).double == 2


def test_a_default_that_is_made_is_made_for_each() -> None:
    first, second = Frozen(x=1), Frozen(x=1)
    first.tags.append(3)
    assert second.tags == []
    assert Open(1).seen is not Open(1).seen


def test_a_frozen_one_does_not_change_and_has_no_other_attributes() -> None:
    point = Frozen(x=1)
    with pytest.raises(AttributeError, match="cannot assign to field 'x'"):
        point.x = 2
    with pytest.raises(AttributeError, match="cannot delete field 'x'"):
        del point.x
    with pytest.raises(AttributeError):
        point.z = 1
    assert not hasattr(point, "__dict__")
    assert Frozen.__doc__ == "Has a docstring."
    assert Frozen.__module__ == __name__


def test_an_open_one_changes_and_cannot_be_a_key() -> None:
    tally = Open(1)
    tally.count += 1
    assert tally == Open(2)
    with pytest.raises(AttributeError):
        tally.z = 1
    with pytest.raises(TypeError, match="unhashable"):
        hash(tally)
    match tally:
        case Open(count, []):
            assert count == 2
        case _:
            pytest.fail("its values have places")


def test_one_can_be_pickled_and_copied() -> None:
    kept = Kept(name="a", inner=Nothing())
    assert pickle.loads(pickle.dumps(kept)) == kept
    assert copy.copy(kept) == kept
    assert copy.deepcopy(kept) == kept
    assert hash(Nothing()) == hash(Nothing())
    assert repr(kept).endswith("Kept(name='a', inner=Nothing())")


def test_a_value_is_replaced_by_one_with_changes() -> None:
    assert ours.replace(Frozen(x=1, y=2), y=3) == Frozen(x=1, y=3)
    with pytest.raises(TypeError, match="z"):
        ours.replace(Frozen(x=1), z=3)


def test_the_values_of_one_are_had_by_name() -> None:
    assert ours.asdict(Frozen(x=1)) == {"x": 1, "y": 0, "tags": []}


@pytest.mark.parametrize(
    "form", [{"slots": False}, {"slots": True, "frozen": True}, {"slots": True, "kw_only": True}]
)
def test_other_forms_are_refused(form: Any) -> None:
    with pytest.raises(TypeError, match="only slots"):
        ours.dataclass(**form)
