"""Requests in flight beyond what a row can show: all counted, the oldest ones shown."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from unicornd.observe.scoreboard import FAILED, Row
from unicornd.units import Monotonic
from unicornd.workers.ledger import Entry, Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator

CELLS = 3
LATER = Monotonic(1000.0)


@pytest.fixture
def row() -> Iterator[Row]:
    row = Row.create(CELLS)
    with contextlib.closing(row):
        yield row


def begin(ledger: Ledger[Entry], began: float, text: str) -> Entry:
    entry = Entry(began, text.encode())
    ledger.begin(entry)
    return entry


def shown(row: Row) -> set[str]:
    return {each.text for each in row.read(LATER).in_flight}


def test_more_requests_than_cells_are_all_counted_and_the_oldest_shown(row: Row) -> None:
    ledger: Ledger[Entry] = Ledger(row)
    entries = [begin(ledger, float(n), f"GET /{n}") for n in range(1, 8)]
    assert shown(row) == {"GET /1", "GET /2", "GET /3"}
    ledger.finish(entries[1], 10.0)
    assert shown(row) == {"GET /1", "GET /3", "GET /4"}
    entries[5].outcome = FAILED
    ledger.finish(entries[5], 10.0)  # one that waits
    assert shown(row) == {"GET /1", "GET /3", "GET /4"}
    for number in (0, 2, 3, 4, 6):
        ledger.finish(entries[number], 10.0)
    reading = row.read(LATER)
    assert (reading.requests, reading.errors, ledger.count) == (7, 1, 7)
    assert reading.busy_seconds == sum(10.0 - n for n in range(1, 8))
    assert reading.in_flight == ()
    assert not ledger.running


@pytest.mark.parametrize(("limit", "late", "since"), [(10.0, 5.0, 10.0), (10.0, 4.9, 5.0), (0.0, 99.0, 5.0)])
def test_a_look_that_comes_far_too_late_costs_no_request_its_time(
    row: Row, limit: float, late: float, since: float
) -> None:
    ledger: Ledger[Entry] = Ledger(row)
    entry = begin(ledger, 5.0, "GET /slow")
    ledger.look(6.0, tick=1.0, limit=limit)
    ledger.look(7.0 + late, tick=1.0, limit=limit)
    assert entry.since == since
    assert row.oldest(LATER, grace=5.0)[1] == since
    young = begin(ledger, 7.0 + late, "GET /young")
    ledger.look(8.0 + late + 50.0, tick=1.0, limit=limit)
    assert young.since <= 8.0 + late + 50.0


def test_a_stream_is_shown_but_no_limit_counts_for_it(row: Row) -> None:
    ledger: Ledger[Entry] = Ledger(row)
    entry = begin(ledger, 5.0, "GET /events")
    assert row.oldest(LATER, grace=5.0)[1] == 5.0
    ledger.begin_stream(entry)
    assert row.oldest(LATER, grace=5.0)[1] is None
    [seen] = row.read(LATER).in_flight
    assert (seen.text, seen.since, seen.is_stream) == ("GET /events", 5.0, True)
    assert row.read(LATER).busy_since is None
    ledger.finish(entry, 9.0)
    assert row.read(LATER).busy_seconds == 4.0


def test_a_stream_that_waited_for_a_cell_is_a_stream_there_too(row: Row) -> None:
    ledger: Ledger[Entry] = Ledger(row)
    first, *_ = [begin(ledger, float(n), "GET /") for n in range(1, CELLS + 1)]
    stream = begin(ledger, 8.0, "GET /ws")
    ledger.begin_stream(stream)
    ledger.finish(first, 9.0)
    assert [(each.text, each.is_stream) for each in row.read(LATER).in_flight if each.since == 8.0] == [
        ("GET /ws", True)
    ]


def test_a_limit_may_be_counted_anew(row: Row) -> None:
    ledger: Ledger[Entry] = Ledger(row)
    entry = begin(ledger, 1.0, "POST /")
    ledger.postpone(entry, 6.0)
    assert row.oldest(LATER, grace=5.0)[1] == 6.0


def test_a_worker_that_ends_requests_itself_has_some_grace(row: Row) -> None:
    row.set_grace(3.0)
    assert row.oldest(LATER, grace=5.0)[1] is None
    begin(Ledger(row), 1.0, "GET /")
    assert row.oldest(LATER, grace=5.0)[1] == 4.0
    assert row.read(LATER).busy_since == 1.0
