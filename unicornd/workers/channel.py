"""What a worker tells the arbiter: small datagrams over its SOCK_SEQPACKET channel.

Written by the worker's main thread, read by the arbiter's loop (the arbiter speaks to a worker by signals, and sends log
files that were opened anew: `renewal`). One datagram is one report, so a report is whole or absent.

The arbiter may be root, and a worker may be anybody's by now: so the grammar is closed and flat. A report is its name
and a fixed number of fields, all of them UTF-8 text of bounded length, with NUL in between. There is no nesting, no
number and no escape to read, so reading has no case that could cost more than the datagram's length.
"""

from __future__ import annotations

from typing import Literal, assert_never

from unicornd.dataclass import dataclass

MAX_REPORT_BYTES = 64 * 1024
"""The largest datagram; a traceback is cut in the middle to fit (its last lines say what happened)."""

MAX_DETAIL_CHARACTERS = 10_000
MAX_LINE_CHARACTERS = 500
MAX_NAME_CHARACTERS = 200
"""How much of a traceback, of a line and of a kind's name is sent: at four bytes a character, all fit."""
_MOST_FIELDS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class BornReport:
    """A mold has forked this worker. Which process that is, the kernel says (`sockets.credentials`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyReport:
    """The application is loaded and the worker serves.

    Attributes:
        kind: the one that serves, which may have followed from the application; empty from a mold.
        gil: whether it has a global interpreter lock; empty if it does not say (a mold).
    """

    kind: str = ""
    gil: Literal["on", "off", ""] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootFailedReport:
    """The worker cannot serve and is about to exit.

    Attributes:
        cause: `app` if the target cannot be found or called, `boot` for anything else.
        text: one line that says what is wrong.
        detail: the traceback, or empty.
    """

    cause: Literal["app", "boot"]
    text: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RetiringReport:
    """The worker goes on serving and asks for a replacement; `why` is a few words (`max_requests 1000 reached`)."""

    why: str


Report = BornReport | ReadyReport | BootFailedReport | RetiringReport


def encode_report(report: Report) -> bytes:
    """Return the datagram for `report`, at most `MAX_REPORT_BYTES` long; what does not fit its field is cut."""
    match report:
        case BornReport():
            fields = ["born"]
        case ReadyReport(kind=kind, gil=gil):
            fields = ["ready", _name(kind), *([gil] if gil else ())]
        case BootFailedReport(cause=cause, text=text, detail=detail):
            fields = [
                "boot_failed",
                cause,
                _cut(text, MAX_LINE_CHARACTERS),
                _cut(detail, MAX_DETAIL_CHARACTERS),
            ]
        case RetiringReport(why=why):
            fields = ["retiring", _cut(why, MAX_LINE_CHARACTERS)]
        case _:
            assert_never(report)
    return "\0".join(fields).encode(errors="replace")


def decode_report(datagram: bytes) -> Report:
    """Return the report in `datagram`.

    Raises:
        ValueError: it is not a report (a foreign, broken or hostile writer). Nothing else, whatever the bytes are.
    """
    if len(datagram) > MAX_REPORT_BYTES:
        raise ValueError(f"not a report: more than {MAX_REPORT_BYTES} bytes")
    match datagram.decode().split("\0", _MOST_FIELDS):
        case ["born"]:
            return BornReport()
        case ["ready", kind] if kind.isprintable() and len(kind) <= MAX_NAME_CHARACTERS:
            return ReadyReport(kind=kind)
        case ["ready", kind, "on" | "off" as gil] if kind.isprintable() and len(kind) <= MAX_NAME_CHARACTERS:
            return ReadyReport(kind=kind, gil=gil)
        case ["boot_failed", "app" | "boot" as cause, text, detail] if (
            len(text) <= MAX_LINE_CHARACTERS and len(detail) <= MAX_DETAIL_CHARACTERS
        ):
            return BootFailedReport(cause=cause, text=text, detail=detail)
        case ["retiring", why] if len(why) <= MAX_LINE_CHARACTERS:
            return RetiringReport(why=why)
        case fields:
            raise ValueError(f"not a report: {fields[0][:40]!r} with {len(fields) - 1} fields")


def _cut(text: str, limit: int) -> str:
    text = text.replace("\0", "\\0")  # a NUL ends a field
    if len(text) <= limit:
        return text
    half = limit // 2 - 10
    return f"{text[:half]}\n[… cut …]\n{text[-half:]}"


def _name(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in text[:MAX_NAME_CHARACTERS])
