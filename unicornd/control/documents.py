"""Documents ↔ bytes: the border where JSON from a client becomes values, and answers become JSON.

Called by the control routes in the arbiter's loop.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from unicornd.control.exchange import Reply
from unicornd.control.protocol import (
    Failure,
    NoParameters,
    Problem,
    ScaleRequest,
    StopRequest,
    UpgradeRequest,
)
from unicornd.errors import CtlExit

if TYPE_CHECKING:
    from unicornd.control.document import Document
    from unicornd.control.exchange import Request

Asked = TypeVar("Asked", ScaleRequest, StopRequest, UpgradeRequest, NoParameters)


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
    table = _table(request.body or b"{}")
    forms, defaults = model.FORMS, model.DEFAULTS
    faults = [
        f"{name}: there is no such field; there are {', '.join(forms) or 'none'}"
        for name in table
        if name not in forms
    ]
    for name, (accepts, expected) in forms.items():
        if name not in table:
            faults += [f"{name}: missing; expected {expected}"] if defaults[name] is ... else []
        elif not accepts(table[name]):
            faults.append(f"{name}: expected {expected}")
    if faults:
        raise BadRequestError("; ".join(faults))
    return model(**table)


def _table(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, too
        raise BadRequestError(f"the body is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise BadRequestError("the body: expected a JSON object")
    return found


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
    return Reply(status=status, body=document.json() + b"\n")


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
    return Reply(status=status, body=problem.json() + b"\n", is_last=is_last)
