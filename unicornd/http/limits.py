"""How much of a request is read before it is refused.

Pure values, made once from the configuration; every number is an argument, nothing in `http` reads settings.
"""

from __future__ import annotations

from unicornd.dataclass import dataclass

MAX_HEAD = 2**20
"""Bytes of a head where one of its limits is "none": what is waited for has to fit into memory, whoever sends it."""

MAX_FIELDS = 32768
"""Header fields where their number has no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The largest request that is accepted.

    Attributes:
        request_line: bytes of the request line without its CRLF; beyond: 414 (RFC 9112 section 3).
        header_count: header fields; beyond: 431 (RFC 6585 section 5).
        header_size: bytes of one field line without its CRLF; beyond: 431.
        body_size: bytes of a decoded body, 0 for no limit; beyond: 413 (RFC 9110 section 15.5.14).
        head_bound: bytes of a whole head, 0 for what the other limits make of it; beyond: 431.
    """

    request_line: int = 8000
    header_count: int = 100
    header_size: int = 8190
    body_size: int = 0
    head_bound: int = 0

    @property
    def head_size(self) -> int:
        """Bytes of a whole head: what is buffered while its end is awaited."""
        size = self.request_line + 2 + self.header_count * (self.header_size + 2) + 2
        return min(size, self.head_bound) if self.head_bound else size


def limits_of(*, request_line: int, header_count: int, header_size: int, body_size: int) -> Limits:
    """Return the limits for what an operator says, where 0 is no limit.

    "No limit" of a head is `MAX_HEAD` bytes altogether and `MAX_FIELDS` fields.
    """
    return Limits(
        request_line=request_line or MAX_HEAD,
        header_count=header_count or MAX_FIELDS,
        header_size=header_size or MAX_HEAD,
        body_size=body_size,
        head_bound=0 if request_line and header_count and header_size else MAX_HEAD,
    )
