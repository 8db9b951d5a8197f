"""What the operator writes → values, as the types of the models begin with it, and as the short way around them does.

A value of a type that is none of a parser's is returned as it is: pydantic says what is wrong with it. Every parser
raises ValueError with a sentence that says what was expected. Pure, but for a look at what installed packages offer as
kinds.
"""

from __future__ import annotations

from unicornd.config.conversions import known_kind
from unicornd.config.kinds import NAMES, entry_point_of, is_custom
from unicornd.config.values import Address, ImportString, parse_statsd, quoted


def as_tuple(value: object) -> object:
    """Accept one address in place of a list of them."""
    match value:
        case str():
            return (value,)
        case list():
            return tuple(value)
        case int() if not isinstance(value, bool):
            return (str(value),)  # refused as an address, with what was probably meant
        case _:
            return value


def parse_address(value: object) -> object:
    """Read an address from text; see `Address.parse`.

    Raises:
        ValueError: it is none, or a table.
    """
    return Address.parse(_text(value)) if isinstance(value, str | dict) else value


def parse_import(value: object) -> object:
    """Read an import string from text; see `ImportString.parse`.

    Raises:
        ValueError: it is none, or a table.
    """
    return ImportString.parse(_text(value)) if isinstance(value, str | dict) else value


def parse_statsd_address(value: object) -> object:
    """Read from text where metrics are sent; see `parse_statsd`.

    Raises:
        ValueError: it is no such text, or a table.
    """
    return parse_statsd(_text(value)) if isinstance(value, str | dict) else value


def _text(value: str | dict[str, object]) -> str:
    """Refuse a table, which pydantic would take for the fields of a value."""
    if isinstance(value, dict):
        raise ValueError(f"expected text in quotes, got {quoted(value)}")  # noqa: TRY004 - told like every other value
    return value


def parse_path(value: object) -> object:
    """Refuse an empty path, which would be the working directory; the value is returned as it is.

    Raises:
        ValueError: it is empty.
    """
    if value == "":
        raise ValueError('expected a path, got ""')
    return value


def parse_networks(value: object) -> tuple[str, ...]:
    """Check addresses and networks; a text is a list with commas, as gunicorn has it.

    Raises:
        ValueError: one of them is neither an address, nor a network, nor `*`.
    """
    texts = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise ValueError(
            f'expected addresses and networks such as ["127.0.0.1", "10.0.0.0/8"], got {quoted(value)}'
        )
    for text in texts:
        _check_network(text)
    return tuple(texts)


def _check_network(text: str) -> None:
    if text == "*":
        return
    import ipaddress  # noqa: PLC0415 - most configurations leave it at our defaults

    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f'expected an address, a network or "*": {error}') from None


def parse_kind(value: object) -> object:
    """Return the name of a kind of ours, of an entry point, or the text that says where a kind is.

    Raises:
        ValueError: it is none of these.
    """
    if not isinstance(value, str):
        return value
    name = known_kind(value)
    if name in NAMES:
        return name
    if value.startswith(("egg:", "gunicorn.")):
        raise ValueError(f"{quoted(value)} is a worker class of gunicorn; kinds are {_listed()}")
    if is_custom(name):
        _check_import(name)
    elif entry_point_of(name) is None:
        from unicornd.config.problems import suggestion  # noqa: PLC0415 - for a mistake

        raise ValueError(f"{quoted(name)} is no kind{suggestion(name, NAMES)}; kinds are {_listed()}")
    return name


def _check_import(name: str) -> None:
    try:
        ImportString.parse(name)
    except ValueError:
        what = f'expected a kind ({_listed()}) or "module:Class", got {quoted(name)}'
        raise ValueError(what) from None


def _listed() -> str:
    return ", ".join(NAMES)
