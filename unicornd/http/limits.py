"""How much of a request is read before it is refused.

Pure values, made once from the configuration; every number is an argument, nothing in `http` reads settings.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The largest request that is accepted.

    Attributes:
        request_line: bytes of the request line without its CRLF; beyond: 414 (RFC 9112 section 3).
        header_count: header fields; beyond: 431 (RFC 6585 section 5).
        header_size: bytes of one field line without its CRLF; beyond: 431.
        body_size: bytes of a decoded body, 0 for no limit; beyond: 413 (RFC 9110 section 15.5.14).
    """

    request_line: int = 4094
    header_count: int = 100
    header_size: int = 8190
    body_size: int = 0

    @property
    def head_size(self) -> int:
        """Bytes of a whole head: what is buffered while its end is awaited."""
        return self.request_line + 2 + self.header_count * (self.header_size + 2) + 2
