"""A request that is not served: why, as an exception that knows its status."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class Refusal(Exception):  # noqa: N818 - it is an answer to the client, not an error of ours
    """The request is refused; the connection is closed after the answer.

    Args:
        status: what the client is told.
        detail: what is wrong, for a person, without bytes of the request.
        section: where it is written, `RFC 9112 section 5.1`, or empty.
        extra: further facts for the log alone; they may contain bytes of the request.
    """

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        section: str = "",
        extra: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status.value} {detail}" + (f" ({section})" if section else ""))
        self.status = status
        self.detail = detail
        self.section = section
        self.extra = extra or {}

    @property
    def facts(self) -> dict[str, Any]:
        """The facts for a line of the log."""
        return {"status": self.status.value, "why": str(self), **self.extra}


def bad_request(detail: str, section: str) -> Refusal:
    """Return a 400 with its reason and the section that says so."""
    return Refusal(HTTPStatus.BAD_REQUEST, detail, section=section)
