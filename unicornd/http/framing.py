"""Where a request's body ends, and whether the connection outlives it: decisions on a parsed head.

RFC 9112 section 6. Whatever could be read in two ways is refused, since another server on the way may have read it in
the other.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from unicornd.http.errors import Refusal, bad_request
from unicornd.http.grammar import CONTENT_LENGTH
from unicornd.http.messages import UNKNOWN_LENGTH

if TYPE_CHECKING:
    from unicornd.http.messages import Head

MAX_LENGTH = 2**63 - 1


def body_length(head: Head) -> int:
    """Return the length of a body with Content-Length or Transfer-Encoding, `UNKNOWN_LENGTH` if it is chunked.

    Raises:
        Refusal: 400 for what is ambiguous or malformed, 501 for a transfer coding other than chunked.
    """
    fields = head.fields
    length = fields.get("CONTENT_LENGTH")
    coding = fields.get("HTTP_TRANSFER_ENCODING")
    if length is not None and coding is None:
        return _declared(length)
    if length is not None:
        raise bad_request("both Transfer-Encoding and Content-Length", "RFC 9112 section 6.1")
    if not head.is_http11:
        raise bad_request("Transfer-Encoding in HTTP/1.0", "RFC 9112 section 6.1")
    codings = [part.strip("\t ").lower() for part in (coding or "").split(",")]
    if codings == ["chunked"]:
        return UNKNOWN_LENGTH
    if "chunked" in codings or "" in codings:
        raise bad_request("chunked is not the only transfer coding", "RFC 9112 section 6.3")
    raise Refusal(
        HTTPStatus.NOT_IMPLEMENTED, "the transfer coding is not supported", section="RFC 9112 section 6.1"
    )


def _declared(length: str) -> int:
    if CONTENT_LENGTH.fullmatch(length) is None or (number := int(length)) > MAX_LENGTH:
        raise bad_request("Content-Length is not a number", "RFC 9110 section 8.6")
    return number


def is_kept_alive(head: Head) -> bool:
    """Return whether a client that sends Connection wants to go on (RFC 9112 section 9.3; `close` wins)."""
    options = {option.strip("\t ") for option in head.fields["HTTP_CONNECTION"].lower().split(",")}
    return "close" not in options and (head.is_http11 or "keep-alive" in options)


def wants_continue(head: Head) -> bool:
    """Return whether the client waits for `100 Continue` (RFC 9110 section 10.1.1).

    Raises:
        Refusal: 417, another expectation.
    """
    if head.fields["HTTP_EXPECT"].lower() != "100-continue":
        raise Refusal(
            HTTPStatus.EXPECTATION_FAILED,
            "the expectation is not 100-continue",
            section="RFC 9110 section 10.1.1",
        )
    return head.is_http11 and head.length != 0
