"""`dataclasses` that cost next to nothing to declare: the same words, the same meaning, no code before it is needed.

The processes of a fleet declare a hundred of them while somebody waits for the first answer, and use some dozens. The
standard library writes and compiles six methods for each; here a class gets methods that all of them share, and its
`__init__` is compiled when its second value is made. Two forms are known: `slots=True`, and frozen with `kw_only=True`
besides; nothing is inherited.

To a type checker it *is* `dataclasses`. At run time `dataclasses.fields` and `is_dataclass` know nothing of it, and
`asdict` leaves what is in a value as it is.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from dataclasses import asdict, dataclass, field, replace

    V = TypeVar("V")

__all__ = ["asdict", "dataclass", "field", "replace"]


class _Factory:
    """What `field` leaves in the body of a class."""

    def __init__(self, make: Callable[[], object]) -> None:
        self.make = make


class _Open:
    """Methods for every class, and all that an open one needs; `__values__` returns what is in a value."""

    __slots__: tuple[str, ...] = ()
    __values__: Callable[[Any], Any]
    __defaults__: dict[str, Any]

    def __init__(self, *given: object, **named: object) -> None:
        cls = type(self)
        values = {**cls.__defaults__, **named}
        if given or values.keys() != set(cls.__slots__):
            _compiled_init(cls)(self, *given, **named)  # knows places, and what to complain about
        else:
            for name, value in values.items():
                object.__setattr__(self, name, value.make() if isinstance(value, _Factory) else value)
        cls.__init__ = _second_init  # type: ignore[method-assign] # many have no second value

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"{type(self).__qualname__}({values})"

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return bool(self.__values__(self) == self.__values__(other))

    __hash__: Callable[..., int] | None = None  # type: ignore[assignment] # it changes

    def __getstate__(self) -> list[Any]:
        return [getattr(self, name) for name in self.__slots__]

    def __setstate__(self, state: list[Any]) -> None:
        for name, value in zip(self.__slots__, state, strict=True):
            object.__setattr__(self, name, value)


class _Frozen(_Open):
    """Methods for the frozen ones."""

    __slots__ = ()

    def __hash__(self) -> int:
        return hash(self.__values__(self))

    def __setattr__(self, name: str, _value: object) -> None:
        raise AttributeError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"cannot delete field {name!r}")


def _second_init(self: _Open, *given: object, **named: object) -> None:
    """Initialize the second value of a class, and have the rest done by code of its own."""
    cls = type(self)
    cls.__init__ = init = _compiled_init(cls)  # type: ignore[method-assign] # made of its declaration
    init(self, *given, **named)


_FOR_OPEN = {
    name: vars(_Open)[name]
    for name in ("__init__", "__repr__", "__eq__", "__hash__", "__getstate__", "__setstate__")
}
_FOR_FROZEN = _FOR_OPEN | {name: vars(_Frozen)[name] for name in ("__hash__", "__setattr__", "__delattr__")}


def _made(*, slots: bool, frozen: bool = False, kw_only: bool = False) -> Callable[[type[V]], type[V]]:
    """Return the decorator; arguments as of `dataclasses.dataclass`.

    Raises:
        TypeError: a form that is not made here.
    """
    if not slots or frozen is not kw_only:
        raise TypeError("only slots=True, or frozen=True, slots=True, kw_only=True")

    def decorate(cls: type[V]) -> type[V]:
        body = dict(vars(cls))
        names = tuple(body.get("__annotations__", ()))
        defaults = {name: body.pop(name) for name in names if name in body}
        for name in ("__dict__", "__weakref__"):
            body.pop(name, None)
        body = {**(_FOR_FROZEN if frozen else _FOR_OPEN), **body}
        body["__qualname__"] = cls.__qualname__
        body["__slots__"] = names
        body["__defaults__"] = defaults
        body["__values__"] = attrgetter(*names) if names else _nothing
        body["__match_args__"] = () if kw_only else names
        made: type[V] = type(cls.__name__, cls.__bases__, body)
        return made

    return decorate


class _Nothing:
    """What stands for the values of a class that declares none."""

    def __call__(self, _value: object) -> tuple[()]:
        return ()


_nothing = _Nothing()


def _compiled_init(cls: type[_Open]) -> Callable[..., None]:
    """Return `__init__` for a class: it sets each value through its slot, past a frozen `__setattr__`."""
    scope: dict[str, Any] = {}
    arguments, lines = ["self"], []
    if cls.__match_args__ == () and cls.__slots__:  # type: ignore[attr-defined] # keyword-only
        arguments.append("*")
    for name in cls.__slots__:
        scope[f"_set_{name}"] = vars(cls)[name].__set__
        value = name
        if name in cls.__defaults__:
            default = scope[f"_default_{name}"] = cls.__defaults__[name]
            if isinstance(default, _Factory):
                scope[f"_make_{name}"] = default.make
                value = f"_make_{name}() if {name} is _default_{name} else {name}"
            arguments.append(f"{name}=_default_{name}")
        else:
            arguments.append(name)
        lines.append(f"    _set_{name}(self, {value})\n")
    text = f"def __init__({', '.join(arguments)}):\n{''.join(lines) or '    pass'}"
    exec(text, scope)  # noqa: S102 - names of a class of ours
    found: Callable[..., None] = scope["__init__"]
    return found


def _factory(*, default_factory: Callable[[], object]) -> Any:  # noqa: ANN401 - whatever the annotation says
    """Declare that a value is made anew for each instance that is given none."""
    return _Factory(default_factory)


def _replaced(value: V, /, **changes: object) -> V:
    """Return a value like this one but for the changes.

    Raises:
        TypeError: a name is none of its own.
    """
    names = type(value).__slots__  # type: ignore[attr-defined] # one of ours
    return type(value)(**{name: getattr(value, name) for name in names} | changes)


def _table(value: Any) -> dict[str, Any]:  # noqa: ANN401 - one of ours
    """Return its values by name."""
    return {name: getattr(value, name) for name in value.__slots__}


if not TYPE_CHECKING:
    asdict, dataclass, field, replace = _table, _made, _factory, _replaced
