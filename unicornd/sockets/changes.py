"""Which listening sockets stay, which are to be opened, which are not wanted any more.

Pure. A socket that is wanted before and after is never closed: its queue goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unicornd.dataclass import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable

    from unicornd.config.values import Address

ANY_IPV4 = "0.0.0.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """From one list of addresses to another, each in the order of its list."""

    keep: tuple[Address, ...]
    bind: tuple[Address, ...]
    close: tuple[Address, ...]


def changes(old: Iterable[Address], new: Iterable[Address]) -> Changes:
    """Compare; an address that is named twice is meant once."""
    before, after = dict.fromkeys(old), dict.fromkeys(new)
    return Changes(
        keep=tuple(address for address in after if address in before),
        bind=tuple(address for address in after if address not in before),
        close=tuple(address for address in before if address not in after),
    )


def is_dual(address: Address, among: Iterable[Address]) -> bool:
    """Whether `[::]` is to take IPv4 connections too: as in gunicorn, unless 0.0.0.0 has the same port."""
    return not any(
        other.kind == "tcp" and other.host == ANY_IPV4 and other.port == address.port for other in among
    )
