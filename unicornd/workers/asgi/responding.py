"""What an ASGI application sends → bytes on the connection: our head and our framing, in the place of uvicorn's.

Run in the event loop. `respond` is the `send` of uvicorn's cycle (a request and its response): the cycle's state is kept
as uvicorn keeps it, since the protocol around it asks for that; head and framing are `http.response`'s, as in every kind.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from unicornd.http.response import LAST_CHUNK, Framing, encode_chunk, encode_head
from unicornd.http.upgrade import WEBSOCKET_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable

NONE, LENGTH, CHUNKED, CLOSE = Framing
_STATUSES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}


def refusal_bytes(status: HTTPStatus, why: str, *, standing: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the whole response to a request that is not served; it closes the connection."""
    text = f"{why}\n".encode()
    fields = [*standing, (b"content-type", b"text/plain"), (b"content-length", b"%d" % len(text))]
    if status is HTTPStatus.UPGRADE_REQUIRED:  # RFC 9110 sections 7.8 and 15.5.22, RFC 6455 section 4.4
        version = WEBSOCKET_VERSION.encode()
        fields += [
            (b"upgrade", b"websocket"),
            (b"sec-websocket-version", version),
            (b"connection", b"close, upgrade"),
        ]
    else:
        fields.append((b"connection", b"close"))
    lines = [b"HTTP/1.1 %d %b" % (status.value, status.phrase.encode())]
    lines += [b"%b: %b" % field for field in fields]
    return b"\r\n".join([*lines, b"", text])


async def respond(cycle: Any, message: Any) -> None:  # noqa: ANN401 - uvicorn's cycle, an ASGI message
    """Send a part of a response.

    Raises:
        RuntimeError: it is not its turn, or the body is not as long as its head says.
        http.response.ResponseError: status or headers cannot be sent.
    """
    # An application that has been told that the worker leaves hears of a disconnect, too, but its client is there.
    if cycle.flow.write_paused and not (cycle.disconnected and cycle.transport.is_closing()):
        await cycle.flow.drain()
    if cycle.disconnected and cycle.transport.is_closing():
        return
    kind = message["type"]
    if not cycle.response_started:
        if kind != "http.response.start":
            raise RuntimeError(f"the response does not begin with http.response.start, but with {kind!r}")
        _begin(cycle, message)
    elif cycle.response_complete:
        raise RuntimeError(f"{kind!r} was sent after the response was complete")
    elif kind != "http.response.body":
        raise RuntimeError(f"the response goes on with {kind!r}, not with http.response.body")
    else:
        _go_on(cycle, message)


def _begin(cycle: Any, message: Any) -> None:  # noqa: ANN401 - see `respond`
    scope, code = cycle.scope, message["status"]
    head = encode_head(
        _STATUSES.get(code) or f"{code:d} ",
        [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message.get("headers", ())],
        cycle.clock.standing(),
        scope["http_version"] == "1.1",
        scope["method"] == "HEAD",
        # Who still waits for 100 Continue may send the body or leave it out: nobody can tell what comes next.
        cycle.keep_alive and not cycle.waiting_for_100_continue,
    )
    cycle.response_started, cycle.waiting_for_100_continue = True, False
    cycle.head, cycle.remaining, cycle.keep_alive = head, head.length, head.keep_alive
    cycle.transport.write(head.data)


def _go_on(cycle: Any, message: Any) -> None:  # noqa: ANN401 - see `respond`
    body, is_more = message.get("body", b""), message.get("more_body", False)
    framing = cycle.head.framing
    if framing is LENGTH:
        cycle.remaining -= len(body)
        if cycle.remaining < 0:
            raise RuntimeError("the response is longer than its Content-Length")
    elif framing is CHUNKED:
        body = encode_chunk(body) if body else b""
        if not is_more:
            body += LAST_CHUNK
    elif framing is NONE:
        body = b""
    cycle.transport.write(body)
    if is_more:
        return
    if framing is LENGTH and cycle.remaining:
        raise RuntimeError("the response is shorter than its Content-Length")
    cycle.response_complete = True
    cycle.message_event.set()
    if not cycle.keep_alive:
        if cycle.more_body:
            cycle.transport.linger_on_close()
        cycle.transport.close()
    cycle.on_response()
