"""Talking to a control socket, for `unicornctl`: one question, one answer, a connection each.

Runs in front of a person or a probe, so it must start fast: plain sockets and json, no pydantic, no http.client. It
speaks HTTP/1.0: the answer is all that comes until the server hangs up, and a stream needs no chunks.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from unicornd.config.instance import spare_names
from unicornd.control.answerer import answerer_of, holder_text, is_trusted
from unicornd.errors import CtlExit, UnicorndError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from unicornd.control.answerer import Answerer

RECEIVE_BYTES = 64 * 1024

MAX_PATH = 107
"""The longest path that fits a sockaddr_un."""

ABSTRACT_PATIENCE = 1.0
"""Seconds that an abstract name may take to let us in before it counts as a stranger's."""

PATIENCE = 25.0
"""Seconds for an answer, as with systemctl; the arbiter answers within milliseconds, or the machine itself stands still."""


class ControlError(UnicorndError):
    """What was asked has not been done; `code` is the exit code that says why."""

    def __init__(
        self, message: str, *, code: CtlExit, hint: str = "", detail: str = "", operation: str = ""
    ) -> None:
        super().__init__(message, hint=hint, detail=detail)
        self.code = code
        self.operation = operation


class StrangerError(ControlError):
    """Somebody answers at a control socket who cannot be unicornd; nothing was asked, nothing is believed."""


class Answer(NamedTuple):
    """A whole answer (a NamedTuple: to import dataclasses takes a sixth of a predicate's time)."""

    status: int
    body: bytes

    def document(self) -> dict[str, Any]:
        """Return the JSON object in the body.

        Raises:
            ControlError: there is none.
        """
        with contextlib.suppress(ValueError):
            document = json.loads(self.body)
            if isinstance(document, dict):
                return document
        raise ControlError("what answers there is not unicornd", code=CtlExit.UNREACHABLE)


def connect(address: str, *, timeout: float) -> socket.socket:
    """Connect to a path, or to an abstract `@name`; a timeout of 0 never waits.

    Raises:
        OSError: nobody answers there.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        if timeout:
            # A blocking connect waits for a place in a full backlog; one with Python's timeout would fail at once.
            wait = struct.pack("@ll", int(timeout), int(timeout % 1 * 1_000_000))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, wait)
        else:
            sock.setblocking(False)
        _connect(sock, address)
        sock.settimeout(timeout)
    except BaseException:
        sock.close()
        raise
    return sock


def _connect(sock: socket.socket, address: str) -> None:
    if address.startswith("@"):
        sock.connect(b"\0" + os.fsencode(address[1:]))
    elif len(os.fsencode(address)) <= MAX_PATH:
        sock.connect(address)
    else:  # a long path is reached through its directory
        folder, name = os.path.split(address)
        directory = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            sock.connect(f"/proc/self/fd/{directory}/{name}")
        finally:
            os.close(directory)


def check_answerer(sock: socket.socket, address: str) -> None:
    """Look who answers at `address` before anything is said to it.

    Raises:
        StrangerError: neither root, nor our own user, nor the owner of the socket's folder.
    """
    answerer = answerer_of(sock)
    if not is_trusted(answerer, address, uid=os.geteuid()):
        raise StrangerError(
            f"not unicornd: {address} is held by {holder_text(answerer)}",
            code=CtlExit.UNREACHABLE,
            hint="believed are root, your own user, and the owner of the socket's folder if others may not write there",
        )


def may_answer(address: str, *, patience: float = ABSTRACT_PATIENCE) -> bool:
    """Whether somebody listens there who may be unicornd, or whom we may not ask.

    An abstract name is given `patience` seconds to take us in: whoever holds it and lets nobody in is no unicornd either.

    Raises:
        StrangerError: somebody else does.
    """
    is_abstract = address.startswith("@")
    try:
        with connect(address, timeout=patience if is_abstract else 0.0) as sock:
            check_answerer(sock, address)
    except BlockingIOError as error:  # its backlog is full
        if is_abstract:
            message = f"not unicornd: {address} is held by a process that lets nobody in"
            raise StrangerError(message, code=CtlExit.UNREACHABLE) from error
    except PermissionError:
        return True
    except OSError:
        return False
    return True


class Search(NamedTuple):
    """Where unicornd may answer (None: nowhere), and what was found out about strangers on the way."""

    address: str | None
    strangers: list[str]


def search_abstract(address: str) -> Search:
    """Look at an abstract name and at those that stand in for it; a second for all of them, however many there are."""
    deadline = time.monotonic() + ABSTRACT_PATIENCE
    strangers: list[str] = []
    for name in (address, *spare_names(address)):
        try:
            if may_answer(name, patience=max(deadline - time.monotonic(), 0.0)):
                return Search(name, strangers)
        except StrangerError as stranger:
            strangers.append(stranger.message)
    return Search(None, strangers)


class Client(NamedTuple):
    """Asks the arbiter at `address`."""

    address: str

    def answerer(self) -> Answerer:
        """Return who answers there.

        Raises:
            ControlError: nobody does.
        """
        try:
            with connect(self.address, timeout=PATIENCE) as sock:
                check_answerer(sock, self.address)
                return answerer_of(sock)
        except OSError as error:
            raise _unreachable(error, self.address) from error

    def get(self, path: str, *, patience: float = PATIENCE) -> dict[str, Any]:
        """Return the document at `path`.

        Raises:
            ControlError: it is refused, or nobody answers.
        """
        return granted(self.ask("GET", path, patience=patience))

    def post(self, path: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:
        """Have something done, and return the document that says how that goes.

        Raises:
            ControlError: it is refused, or nobody answers.
        """
        return granted(self.ask("POST", path, body=json.dumps(body or {}).encode()))

    def ask(self, method: str, path: str, *, body: bytes = b"", patience: float = PATIENCE) -> Answer:
        """Send one request and return its answer, whatever the status.

        Raises:
            ControlError: nobody answers, or not in time, or not wholly.
        """
        with self._talk(method, path, body=body, patience=patience) as sock:
            received = bytearray()
            while data := sock.recv(RECEIVE_BYTES):
                received += data
        return _parse(bytes(received))

    def lines(self, path: str) -> Iterator[bytes]:
        """Follow a stream, line by line, until the server hangs up.

        Raises:
            ControlError: it is refused, or nobody answers.
        """
        with self._talk("GET", path, body=b"", patience=PATIENCE) as sock:
            buffer = b""
            while b"\r\n\r\n" not in buffer and (data := sock.recv(RECEIVE_BYTES)):
                buffer += data
            if not buffer.startswith(b"HTTP/1.1 200 "):
                while data := sock.recv(RECEIVE_BYTES):
                    buffer += data
                granted(_parse(buffer))
            buffer = buffer.partition(b"\r\n\r\n")[2]
            sock.settimeout(None)
            while True:
                *whole, buffer = buffer.split(b"\n")
                yield from whole
                if not (data := sock.recv(RECEIVE_BYTES)):
                    return
                buffer += data

    @contextlib.contextmanager
    def _talk(self, method: str, path: str, *, body: bytes, patience: float) -> Iterator[socket.socket]:
        request = (
            f"{method} {path} HTTP/1.0\r\nHost: unicornd\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        try:
            with connect(self.address, timeout=patience) as sock:
                check_answerer(sock, self.address)
                sock.sendall(request)
                yield sock
        except OSError as error:
            raise _unreachable(error, self.address) from error


def _unreachable(error: OSError, address: str) -> ControlError:
    match error:
        case FileNotFoundError() | ConnectionRefusedError():
            return ControlError(
                f"nothing is running (no answer at {address})",
                code=CtlExit.NOT_RUNNING,
                hint="`unicornctl start` starts it; `unicornctl ls` lists what runs",
            )
        case PermissionError():
            return ControlError(
                f"no permission to use {address}",
                code=CtlExit.PERMISSION,
                hint="the user that runs unicornd, root, and whom [control] allow_… and view_… name may",
            )
        case TimeoutError() | BlockingIOError():
            return ControlError(f"no answer from {address} in time", code=CtlExit.UNREACHABLE)
        case _:
            return ControlError(f"{address}: {error.strerror or error}", code=CtlExit.UNREACHABLE)


def _parse(received: bytes) -> Answer:
    head, separator, body = received.partition(b"\r\n\r\n")
    status_line, *fields = head.split(b"\r\n")
    pairs = [line.partition(b":") for line in fields]
    lengths = [value.strip() for name, _, value in pairs if name == b"Content-Length"]
    parts = status_line.split(b" ", 2)
    is_whole = separator and len(parts) > 1 and parts[1].isdigit() and lengths == [str(len(body)).encode()]
    if not is_whole:
        raise ControlError("the answer was cut short: unicornd ended meanwhile?", code=CtlExit.UNREACHABLE)
    return Answer(status=int(parts[1]), body=body)


def granted(answer: Answer) -> dict[str, Any]:
    """Return the document of a good answer.

    Raises:
        ControlError: the answer is a refusal, or no answer of unicornd.
    """
    document = answer.document()
    if answer.status < 400:  # noqa: PLR2004 - the border between HTTP's good and bad news
        return document
    problem = document.get("error")
    if not isinstance(problem, dict):
        raise ControlError(f"unicornd answered {answer.status}", code=CtlExit.FAILED)
    raise ControlError(
        str(problem.get("message", "")),
        hint=str(problem.get("hint", "")),
        detail=str(problem.get("detail", "")),
        code=_known_code(problem.get("exit_code")),
        operation=str(problem.get("operation", "")),
    )


def _known_code(code: object) -> CtlExit:
    """Return the exit code that the server asks for; one of a newer version than ours is a failure."""
    return next((known for known in CtlExit if known == code), CtlExit.FAILED)
