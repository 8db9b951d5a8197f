"""A row is written by a worker that may be hostile: whatever bytes are in it, what is read is what it can be."""

from __future__ import annotations

import json
import os
import struct
from contextlib import closing
from math import inf, isfinite, nan
from typing import NoReturn

from hypothesis import given
from hypothesis import strategies as st

from tests.support.control_port import make_child, make_facts, make_pool, make_state
from unicornd.arbiter import view
from unicornd.dataclass import replace
from unicornd.observe.metrics import Fleet, Totals, exposition
from unicornd.observe.scoreboard import MAX_CONNECTIONS, MAX_COUNT, MAX_TEXT_BYTES, Reading, Row
from unicornd.units import Monotonic

NOW = Monotonic(5000.0)
GRACE = 3.0
CELLS = 2
WORDS = 24 + CELLS * 32
POOL = make_pool(1)

times = (
    st.sampled_from([0.0, 1.0, 4999.0, 5000.5, 5002.0, 1e308, 5e-324, -1.0, -4999.0, -1e308, inf, -inf, nan])
    | st.floats()
)
words = times.map(lambda number: struct.pack("@d", number)) | st.binary(min_size=8, max_size=8)
rows = st.lists(words, min_size=WORDS, max_size=WORDS).map(b"".join)


@given(contents=st.lists(rows, min_size=1, max_size=3))
def test_whatever_is_in_a_row_what_is_read_is_what_it_can_be(contents: list[bytes]) -> None:
    with closing(Row.create(CELLS)) as row:
        last: Reading | None = None
        for content in contents:
            os.pwrite(row.fd, content, 0)
            beat, busy = row.oldest(NOW, grace=GRACE)
            assert 0 <= beat <= NOW
            assert busy is None or 0 < busy <= NOW + GRACE
            reading = row.read(NOW)
            check(reading, last)
            assert reading.heartbeat == beat
            assert reading.busy_since is None or busy is not None
            check_what_is_told(reading)
            last = reading


def check(reading: Reading, last: Reading | None) -> None:
    counts = (reading.requests, reading.errors, *reading.buckets)
    assert all(0 <= count <= MAX_COUNT for count in counts)
    assert 0 <= reading.connections <= MAX_CONNECTIONS
    assert 0 <= reading.busy_seconds <= MAX_COUNT
    for request in reading.in_flight:
        assert 0 < request.since <= NOW
        assert len(request.text) <= len(r"\x00") * MAX_TEXT_BYTES
        assert not any(each < " " or "\x7f" <= each < "\xa0" for each in request.text)
    if last is not None:
        assert all(
            new >= old for new, old in zip(counts, (last.requests, last.errors, *last.buckets), strict=True)
        )
        assert reading.busy_seconds >= last.busy_seconds


def check_what_is_told(reading: Reading) -> None:
    child = make_child(1)
    total = Totals()
    total.add(reading)
    facts = replace(
        make_facts(), at=NOW, readings={child.pid: reading}, requests=total.requests, errors=total.errors
    )
    document = view.status(make_state(1, child), facts, pool=POOL, running=None).json()
    json.loads(document, parse_constant=refuse)
    fleet = Fleet(
        workers={}, wanted=1, generation=1, connections=reading.connections, busy=len(reading.in_flight),
        queues={}, started=1.0,
    )  # fmt: skip
    samples = [line for line in exposition(fleet, total).decode().splitlines() if not line.startswith("#")]
    assert all(isfinite(float(line.rpartition(" ")[2])) for line in samples)


def refuse(constant: str) -> NoReturn:
    raise AssertionError(constant)
