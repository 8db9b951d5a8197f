"""Models of the protocol ↔ bytes: the border where JSON from a client becomes values, and answers become JSON.

Called by the control routes in the arbiter's loop.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from unicornd.control.exchange import Reply
from unicornd.control.protocol import Document, Failure, Problem
from unicornd.errors import CtlExit

if TYPE_CHECKING:
    from unicornd.control.exchange import Request

Asked = TypeVar("Asked", bound=Document)


class BadRequestError(Exception):
    """What was asked is not understood; `message` says what is wrong with it."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


def parse_body(model: type[Asked], request: Request) -> Asked:
    """Return the request's body as a document; no body is an empty one.

    Raises:
        BadRequestError: it is not what `model` says; all faults at once.
    """
    try:
        return model.model_validate_json(request.body or b"{}")
    except ValidationError as error:
        faults = [
            f"{'.'.join(str(part) for part in fault['loc'][:1]) or 'the body'}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        raise BadRequestError("; ".join(dict.fromkeys(faults))) from None


def parse_number(name: str, request: Request, *, default: float) -> float:
    """Return a query parameter that is a number from 0.

    Raises:
        BadRequestError: it is something else.
    """
    text = request.query.get(name)
    if text is None:
        return default
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < 2**53:
        raise BadRequestError(f"{name}: {text!r} is not a number from 0")
    return number


def reply_with(document: Document, *, status: HTTPStatus = HTTPStatus.OK) -> Reply:
    """Return the reply that carries a document."""
    return Reply(status=status, body=document.model_dump_json(by_alias=True).encode() + b"\n")


def refuse(
    status: HTTPStatus,
    message: str,
    *,
    exit_code: CtlExit = CtlExit.FAILED,
    hint: str = "",
    is_last: bool = False,
) -> Reply:
    """Return the reply of a request that cannot be granted; `is_last` closes the connection after it."""
    problem = Problem(error=Failure(message=message, hint=hint, exit_code=exit_code))
    return Reply(status=status, body=problem.model_dump_json(by_alias=True).encode() + b"\n", is_last=is_last)
