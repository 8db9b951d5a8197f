"""What a worker tells the arbiter: small JSON datagrams over its SOCK_SEQPACKET channel.

Written by the worker's main thread, read by the arbiter's loop; never the other way round (the arbiter speaks to a
worker by signals). One datagram is one report, so a report is whole or absent.
"""

from __future__ import annotations

import json
from typing import Literal

from unicornd.dataclass import asdict, dataclass
from unicornd.escaping import one_line

MAX_REPORT_BYTES = 64 * 1024
"""The largest datagram; a traceback is cut in the middle to fit (its last lines say what happened)."""

MAX_DETAIL_CHARACTERS = 10_000
MAX_LINE_CHARACTERS = 500
"""How much of a traceback and of a line is sent: a control character takes six bytes in JSON, so both fit."""

MAX_EXCERPT_CHARACTERS = 200
"""How much is shown of what is no report."""
MAX_KIND_CHARACTERS = 200
"""Of the name of a kind: its own, or `module:Class`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BornReport:
    """A mold has forked this worker, which has this process id."""

    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyReport:
    """The application is loaded and the worker serves.

    Attributes:
        kind: the one that serves, which may have followed from the application; empty from a mold.
    """

    kind: str = ""


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

_KINDS: dict[str, type[Report]] = {
    "born": BornReport,
    "ready": ReadyReport,
    "boot_failed": BootFailedReport,
    "retiring": RetiringReport,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def encode_report(report: Report) -> bytes:
    """Return the datagram for `report`, at most `MAX_REPORT_BYTES` long."""
    limits = {"detail": MAX_DETAIL_CHARACTERS}
    facts = {
        key: _cut(value, limits.get(key, MAX_LINE_CHARACTERS)) if isinstance(value, str) else value
        for key, value in asdict(report).items()
    }
    return json.dumps({"report": _NAMES[type(report)], **facts}, ensure_ascii=False).encode(errors="replace")


def decode_report(datagram: bytes) -> Report:
    """Return the report in `datagram`; its texts are cut here, too, since an application can write to the channel.

    Raises:
        ValueError: it is not a report (a foreign or broken writer).
    """
    match json.loads(datagram):
        case {"report": "born", "pid": int(pid)}:
            return BornReport(pid=pid)
        case {"report": "ready", "kind": str(kind)}:
            return ReadyReport(kind=one_line(kind[:MAX_KIND_CHARACTERS]))
        case {
            "report": "boot_failed",
            "cause": "app" | "boot" as cause,
            "text": str(text),
            "detail": str(detail),
        }:
            return BootFailedReport(
                cause=cause, text=_cut(text, MAX_LINE_CHARACTERS), detail=_cut(detail, MAX_DETAIL_CHARACTERS)
            )
        case {"report": "retiring", "why": str(why)}:
            return RetiringReport(why=_cut(why, MAX_LINE_CHARACTERS))
        case other:
            raise ValueError(f"not a report: {other!r:.{MAX_EXCERPT_CHARACTERS}}")


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    half = limit // 2 - 10
    return f"{text[:half]}\n[… cut …]\n{text[-half:]}"
