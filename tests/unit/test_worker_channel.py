from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unicornd.workers.channel import (
    MAX_DETAIL_CHARACTERS,
    MAX_EXCERPT_CHARACTERS,
    MAX_KIND_CHARACTERS,
    MAX_LINE_CHARACTERS,
    MAX_REPORT_BYTES,
    BootFailedReport,
    ReadyReport,
    Report,
    RetiringReport,
    decode_report,
    encode_report,
)

REPORTS: list[Report] = [
    ReadyReport(kind="threads"),
    BootFailedReport(cause="app", text="no attribute 'ap'", detail="Traceback…"),
    RetiringReport(why="max_requests 1000 reached"),
]


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: type(report).__name__)
def test_a_report_comes_back_as_it_was_sent(report: Report) -> None:
    assert decode_report(encode_report(report)) == report


@given(detail=st.text(alphabet=st.characters(), max_size=40).map(lambda text: text * 1000))
def test_a_report_always_fits_a_datagram_and_keeps_both_ends_of_a_long_traceback(detail: str) -> None:
    datagram = encode_report(BootFailedReport(cause="boot", text="it raised", detail=detail))
    report = decode_report(datagram)
    assert len(datagram) <= MAX_REPORT_BYTES
    assert isinstance(report, BootFailedReport)
    assert report.detail[:10] == detail[:10].encode(errors="replace").decode()
    assert report.detail[-10:] == detail[-10:].encode(errors="replace").decode()


@pytest.mark.parametrize(
    "datagram",
    [b"", b"{", b"\xff", b"[]", b'{"report": "tired"}', b'{"report": "retiring"}', b'{"report": "retiring", "why": 3}',
     json.dumps({"report": "boot_failed", "cause": "weather", "text": "", "detail": ""}).encode()],
)  # fmt: skip
def test_what_is_not_a_report_is_a_value_error(datagram: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json, Unicode and our own error are all ValueErrors
        decode_report(datagram)


def test_of_what_is_not_a_report_a_short_excerpt_is_shown() -> None:
    with pytest.raises(ValueError, match="not a report") as caught:
        decode_report(json.dumps(["x" * 50_000]).encode())
    assert len(str(caught.value)) <= len("not a report: ") + MAX_EXCERPT_CHARACTERS


def test_a_report_that_somebody_else_has_written_is_bounded() -> None:
    long = "x" * 20_000
    ready = decode_report(json.dumps({"report": "ready", "kind": f"<b>\x1b[31m{long}"}).encode())
    assert ready == ReadyReport(kind=f"<b>\\x1b[31m{long[: MAX_KIND_CHARACTERS - len('<b>?[31m')]}")
    retiring = decode_report(json.dumps({"report": "retiring", "why": long}).encode())
    assert isinstance(retiring, RetiringReport)
    assert len(retiring.why) <= MAX_LINE_CHARACTERS
    failed = {"report": "boot_failed", "cause": "boot", "text": long, "detail": long}
    told = decode_report(json.dumps(failed).encode())
    assert isinstance(told, BootFailedReport)
    assert len(told.text) <= MAX_LINE_CHARACTERS
    assert len(told.detail) <= MAX_DETAIL_CHARACTERS
