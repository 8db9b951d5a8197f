"""Rows, and the numbers that are made of them."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import closing
from math import inf, nan

import pytest

from unicornd.observe.metrics import Fleet, Totals, exposition
from unicornd.observe.scoreboard import BUCKETS, GONE, MAX_COUNT, MAX_TEXT_BYTES, OVERDUE, Row
from unicornd.units import Monotonic

LATER = Monotonic(2000.0)


def test_a_row_says_what_its_threads_are_doing() -> None:
    with closing(Row.create(2)) as row:
        cell, counters = row.cell(1), row.counters()
        row.beat(Monotonic(5.0))
        row.set_connections(3)
        assert row.oldest(LATER, grace=3.0) == (5.0, None)
        cell.begin(Monotonic(6.0), b"GET /slow")
        reading = row.read(LATER)
        assert [(each.cell, each.since, each.text) for each in reading.in_flight] == [(1, 6.0, "GET /slow")]
        assert (reading.heartbeat, reading.connections, reading.busy_since) == (5.0, 3, 6.0)
        assert row.oldest(LATER, grace=3.0) == (5.0, 6.0)
        cell.clear()
        counters.errors += 1
        counters.add(6.2, 0.2)
        reading = row.read(LATER)
        assert (reading.requests, reading.errors, reading.in_flight) == (1, 1, ())
        assert (reading.heartbeat, reading.connections) == (6.2, 3)
        assert reading.busy_seconds == pytest.approx(0.2)
        assert reading.buckets[BUCKETS.index(0.25)] == 1
        del cell, counters  # they have parts of the row's memory


def test_a_long_request_line_is_cut_and_leaves_the_next_cell_alone() -> None:
    with closing(Row.create(2)) as row:
        row.cell(1).begin(Monotonic(1.0), b"second")
        row.cell(0).begin(Monotonic(2.0), b"x" * (MAX_TEXT_BYTES + 50))
        assert [request.text for request in row.read(LATER).in_flight] == ["x" * MAX_TEXT_BYTES, "second"]


def test_a_request_longer_than_all_buckets_is_counted_above_them() -> None:
    with closing(Row.create(1)) as row:
        row.counters().add(1000.0, 999.0)
        assert row.read(LATER).buckets[-1] == 1


def test_what_an_application_has_written_over_the_row_is_not_counted_on() -> None:
    """And the worker does not die of it."""
    with closing(Row.create(1)) as row:
        counters = row.counters()
        os.pwrite(row.fd, b"\xff" * os.fstat(row.fd).st_size, 0)
        counters.note(OVERDUE | GONE)
        counters.add(1.0, 0.2)
        reading = row.read(LATER)
        assert (reading.requests, reading.timeouts, reading.disconnects) == (1, 1, 1)
        assert reading.buckets[BUCKETS.index(0.25)] == 1
        del counters


def test_requests_that_are_counted_together_are_shown_together() -> None:
    with closing(Row.create(1)) as row:
        counters = row.counters()
        counters.add(1.0, 0.001)
        for seconds in (0.003, 0.02, 0.02, 999.0):
            counters.count(seconds)
        counters.errors += 1
        assert (row.read(LATER).requests, sum(row.read(LATER).buckets)) == (1, 1)
        counters.show(2.0)
        counters.show(3.0)
        told = row.read(LATER)
        assert (told.requests, told.errors, told.heartbeat) == (5, 1, 3.0)
        assert told.busy_seconds == pytest.approx(999.044)
        assert (told.buckets[0], told.buckets[2], told.buckets[-1], sum(told.buckets)) == (2, 2, 1, 5)
        del counters


def test_nobody_can_change_the_size_of_a_row_or_of_its_stacks() -> None:
    with closing(Row.create(1)) as row:
        for fd in (row.fd, row.stacks.fd):
            size = os.fstat(fd).st_size
            for wanted in (0, size - 1, size + 1):
                with pytest.raises(PermissionError) as caught:
                    os.ftruncate(fd, wanted)
                assert caught.value.errno == errno.EPERM
            with pytest.raises(PermissionError):
                fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
            assert os.fstat(fd).st_size == size
            assert not os.get_inheritable(fd)
        assert row.oldest(LATER, grace=0.0) == (0.0, None)


@pytest.mark.parametrize(
    ("said", "taken"),
    [(1999.0, 1999.0), (2000.5, 2000.0), (2002.0, 0.0), (inf, 0.0), (nan, 0.0), (-5.0, 0.0)],
)
def test_a_heartbeat_that_is_not_past_is_none(said: float, taken: float) -> None:
    """Were one in the future taken for one that has just come, a single store would keep a stuck worker for ever."""
    with closing(Row.create(1)) as row:
        row.beat(Monotonic(said))
        assert row.oldest(LATER, grace=0.0) == (taken, None)
        assert row.read(LATER).heartbeat == taken


@pytest.mark.parametrize(
    ("said", "taken"),
    [(1999.0, 1999.0), (2000.5, 2000.0), (2002.0, None), (inf, None), (nan, None), (-inf, None)],
)
def test_a_request_that_has_not_begun_yet_is_none(said: float, taken: float | None) -> None:
    with closing(Row.create(1)) as row:
        row.cell(0).begin(Monotonic(said), b"GET /")
        assert row.oldest(LATER, grace=0.0)[1] == taken
        assert row.read(LATER).busy_since == taken


@pytest.mark.parametrize(("asked", "granted"), [(2.0, 2.0), (9.0, 3.0), (inf, 3.0), (nan, 0.0), (-9.0, 0.0)])
def test_a_worker_gets_no_more_grace_than_the_arbiter_has(asked: float, granted: float) -> None:
    with closing(Row.create(1)) as row:
        row.cell(0).begin(Monotonic(1000.0), b"GET /")
        row.set_grace(asked)
        assert row.oldest(LATER, grace=3.0) == (0.0, 1000.0 + granted)


def test_counts_that_are_absurd_or_sink_are_not_taken() -> None:
    with closing(Row.create(1)) as row, memoryview(bytearray(24 * 8)) as said:
        numbers, times = said.cast("Q"), said.cast("d")

        def told(count: int, busy: float) -> tuple[int, int, int, int, float]:
            numbers[1] = numbers[2] = numbers[4] = numbers[5] = count
            times[3] = busy
            os.pwrite(row.fd, said, 0)
            reading = row.read(LATER)
            return (
                reading.requests, reading.errors, reading.connections, reading.buckets[0], reading.busy_seconds
            )  # fmt: skip

        assert told(7, 1.5) == (7, 7, 7, 7, 1.5)
        assert told(3, 1.0) == (7, 7, 3, 7, 1.5)
        assert told(MAX_COUNT + 1, inf) == (7, 7, 0, 7, 1.5)
        assert told(2**64 - 1, nan) == (7, 7, 0, 7, 1.5)
        assert told(8, -1.0) == (8, 8, 8, 8, 1.5)
        numbers.release()
        times.release()


def test_control_characters_of_a_request_are_shown_not_passed_on() -> None:
    with closing(Row.create(1)) as row:
        row.cell(0).begin(Monotonic(1.0), b"GET /\x1b[31m\n\x00\x7f\x9bm\xe9")
        (request,) = row.read(LATER).in_flight
        assert request.text == r"GET /\x1b[31m\x0a\x00\x7f\x9bm" + "\xe9"


def test_counters_of_the_dead_are_added_to_those_of_the_living() -> None:
    with closing(Row.create(1)) as row:
        counters = row.counters()
        for now in (1.003, 2.003):
            counters.add(now, 0.003)
        totals = Totals()
        totals.add(row.read(LATER))
        both = totals.with_living([row.read(LATER), Totals(requests=0, restarts=2)])
        assert (totals.restarts, both.restarts) == (0, 2)
        assert (totals.requests, both.requests, both.buckets[0]) == (2, 4, 4)
        del counters


def test_prometheus_gets_cumulated_buckets_and_escaped_labels() -> None:
    totals = Totals(
        requests=3, errors=1, busy_seconds=0.5, buckets=[2, 1, *[0] * (len(BUCKETS) - 1)], restarts=1
    )
    fleet = Fleet(
        workers={"ready": 2, "booting": 0}, wanted=2, generation=4, connections=5, busy=1,
        queues={'unix:/a"b\\c': 7}, started=1.5,
    )  # fmt: skip
    lines = exposition(fleet, totals).decode().splitlines()
    assert 'unicornd_workers{phase="ready"} 2' in lines
    assert 'unicornd_accept_queue{listener="unix:/a\\"b\\\\c"} 7' in lines
    assert "unicornd_requests_total 3" in lines
    assert "unicornd_worker_restarts_total 1" in lines
    name = "unicornd_request_duration_seconds"
    assert f'{name}_bucket{{le="0.005"}} 2' in lines
    assert f'{name}_bucket{{le="0.01"}} 3' in lines
    assert f'{name}_bucket{{le="+Inf"}} 3' in lines
    assert f"{name}_sum 0.5" in lines
    assert f"{name}_count 3" in lines
    assert [line for line in lines if line.startswith("# TYPE unicornd_requests_total")] == [
        "# TYPE unicornd_requests_total counter"
    ]
