"""A request's head as a value.

`Head` is made once for every request, so it is a plain class with slots: a frozen dataclass costs four times as much
to make. Nothing changes it after `parse_head` has returned it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unicornd.http.forwarded import Forwarded

UNKNOWN_LENGTH = -1
"""`Head.length` of a chunked body."""


class Head:
    """What a request's head says.

    Attributes:
        method: a token, as sent (methods are case-sensitive).
        target: the request target as sent.
        path: the target's path as sent (percent-encoded); empty for the asterisk and authority forms.
        query: what follows the first `?`, without it.
        protocol: `HTTP/1.1` or `HTTP/1.0`, the version that the answer is in.
        is_http11: whether that is 1.1.
        fields: header fields under their CGI names (RFC 3875 section 4.1.18): `HTTP_ACCEPT`, `CONTENT_TYPE`. Repeated
            fields are joined with `,` (RFC 9110 section 5.3; Cookie with `; `, RFC 6265 section 5.4). Names with an
            underscore are not there: they would be taken for those with a hyphen.
        length: bytes of the body, `UNKNOWN_LENGTH` if it is chunked.
        keep_alive: whether the client wants the connection kept after this request.
        expects_continue: whether it waits for `100 Continue` before it sends the body.
        has_underscores: whether there were such names.
        forwarded: what is believed of those who forwarded it, or None; set by whoever has parsed the head.
        view: what hooks are shown of the request; not there before one is called.
    """

    __slots__ = (
        "expects_continue",
        "fields",
        "forwarded",
        "has_underscores",
        "is_http11",
        "keep_alive",
        "length",
        "method",
        "path",
        "protocol",
        "query",
        "target",
        "view",
    )  # fmt: skip

    expects_continue: bool
    fields: dict[str, str]
    has_underscores: bool
    is_http11: bool
    keep_alive: bool
    length: int
    method: str
    path: str
    protocol: str
    query: str
    target: str
    forwarded: Forwarded | None
    view: object
