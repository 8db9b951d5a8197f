from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unicornd.workers.channel import (
    MAX_REPORT_BYTES,
    BootFailedReport,
    BornReport,
    ReadyReport,
    Report,
    RetiringReport,
    decode_report,
    encode_report,
)

REPORTS: list[Report] = [
    BornReport(),
    ReadyReport(kind="threads"),
    ReadyReport(),
    ReadyReport(kind="threads", gil="off"),
    BootFailedReport(cause="app", text="no attribute 'ap'", detail="Traceback…\n  line"),
    RetiringReport(why="max_requests 1000 reached"),
]
LINE = 500
HOSTILE = [
    b"", b"\0", b"\xff", b"ready", b"ready\0\xff", b"ready\0threads\0", b"ready\0threads\0maybe", b"ready\0\x1b[31m\0off", b"ready\0a\nb", b"ready\0\x1b[31m", b"ready\0" + b"k" * 201,
    b"tired", b"retiring", b"retiring\0" + b"w" * (LINE + 1), b"born\x00123", b"born\0", b"boot_failed\0weather\0\0",
    b"boot_failed\0app\0text", b"boot_failed\0app\0\0\0", b"boot_failed\0app\0\0" + b"d" * 10_001, b"boot_failed\0app\0" + b"t" * 501 + b"\0",
    b'{"report": "ready", "kind": "sync"}', b"[" * 60_000, b'{"a":' * 12_000, b"9" * 60_000, b"\0" * 65_536,
    b"ready\0" + b"x" * MAX_REPORT_BYTES,
]  # fmt: skip


@pytest.mark.parametrize("report", REPORTS, ids=repr)
def test_a_report_comes_back_as_it_was_sent(report: Report) -> None:
    assert decode_report(encode_report(report)) == report


@given(
    text=st.text(alphabet=st.characters(), max_size=40).map(lambda text: text * 40),
    detail=st.text(alphabet=st.characters(), max_size=40).map(lambda text: text * 1000),
)
def test_whatever_a_worker_says_is_understood(text: str, detail: str) -> None:
    """Also a kind's name that is cut, and texts with NUL and lone surrogates: nobody is killed for a file's name."""
    said: list[Report] = [
        ReadyReport(kind=text), RetiringReport(why=text), BootFailedReport(cause="boot", text=text, detail=detail)
    ]  # fmt: skip
    for report in said:
        datagram = encode_report(report)
        assert len(datagram) <= MAX_REPORT_BYTES
        assert type(decode_report(datagram)) is type(report)


@given(
    detail=st.text(alphabet=st.characters(exclude_characters="\0"), max_size=40).map(lambda text: text * 1000)
)
def test_a_long_traceback_keeps_both_ends(detail: str) -> None:
    report = decode_report(encode_report(BootFailedReport(cause="boot", text="it raised", detail=detail)))
    assert isinstance(report, BootFailedReport)
    assert report.detail[:10] == detail[:10].encode(errors="replace").decode()
    assert report.detail[-10:] == detail[-10:].encode(errors="replace").decode()


@pytest.mark.parametrize("datagram", HOSTILE, ids=lambda datagram: repr(datagram[:20]))
def test_what_is_not_a_report_is_a_value_error(datagram: bytes) -> None:
    with pytest.raises(ValueError, match=r"not a report|codec"):
        decode_report(datagram)


def test_an_error_does_not_repeat_what_a_hostile_worker_says() -> None:
    with pytest.raises(ValueError, match="not a report") as caught:
        decode_report(b"\x1b[31m\n" + b"x" * 60_000)
    assert len(str(caught.value)) < 200
    assert str(caught.value).isprintable()


FIELD = st.one_of(
    st.sampled_from([b"born", b"ready", b"retiring", b"boot_failed", b"app", b"boot", b"threads", b""]),
    st.binary(max_size=20),
    st.integers(0, 11_000).map(lambda size: b"x" * size),
)


@given(datagram=st.binary(max_size=200) | st.lists(FIELD, max_size=7).map(b"\0".join))
def test_any_bytes_are_a_report_or_a_value_error(datagram: bytes) -> None:
    try:
        report = decode_report(datagram)
    except ValueError:
        return
    assert decode_report(encode_report(report)) == report
