from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unicornd.workers.channel import (
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
