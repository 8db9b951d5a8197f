"""What passes between the control server and the routes: a request, and the three ways to answer it.

Values only. All functions in them are called by the arbiter's loop and return at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unicornd.dataclass import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from http import HTTPStatus

    from unicornd.units import Monotonic

JSON = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A whole request: the body has arrived. `host` is the Host field's value, or empty."""

    method: str
    path: str
    query: Mapping[str, str]
    body: bytes
    host: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer that is known. `headers` are further ones (`Allow`); `is_last` closes the connection."""

    status: HTTPStatus
    body: bytes
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    is_last: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LongPoll:
    """An answer that is not known yet.

    Attributes:
        poll: the answer, or None if there is still nothing to say; asked at each turn of the loop.
        until: when to give up waiting.
        expire: the answer then, or what to wait for next.
    """

    poll: Callable[[], Reply | None]
    until: Monotonic
    expire: Callable[[], Reply | LongPoll]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """An answer without end.

    Attributes:
        pull: what there is to send now, possibly nothing; asked only when the client has taken what was sent before, so
            a slow reader costs no memory.
    """

    content_type: str
    pull: Callable[[], bytes]


Answer = Reply | LongPoll | Stream

if TYPE_CHECKING:
    Gate = Callable[[Request], Reply | None]
    """What stands before the routes: None lets a request through, a reply is its answer."""
