"""The limits of a head that another parser has read, held against what it has found."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from unicornd.http.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unicornd.http.limits import Limits


def refusal_of_sizes(limits: Limits, *, line: int, fields: Sequence[tuple[bytes, bytes]]) -> Refusal | None:
    """Return why a head is too large, or None.

    Args:
        limits: none of them is 0: where there is no limit, it is a large one.
        line: bytes of the request line.
        fields: the header fields.
    """
    if line > limits.request_line:
        return Refusal(HTTPStatus.REQUEST_URI_TOO_LONG, f"request line over {limits.request_line} bytes")
    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    if len(fields) > limits.header_count:
        return Refusal(status, f"more than {limits.header_count} header fields")
    most = limits.header_size
    if any(len(name) + len(value) + len(b": ") > most for name, value in fields):
        return Refusal(status, f"a header field is over {most} bytes")
    return None
