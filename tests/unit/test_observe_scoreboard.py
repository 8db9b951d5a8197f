"""Rows, and the numbers that are made of them."""

from __future__ import annotations

import os
from contextlib import closing

import pytest

from unicornd.observe.metrics import Fleet, Totals, exposition
from unicornd.observe.scoreboard import BUCKETS, MAX_TEXT_BYTES, Row
from unicornd.units import Monotonic


def test_a_row_says_what_its_threads_are_doing() -> None:
    with closing(Row.create(2)) as row:
        cell, counters = row.cell(1), row.counters()
        row.beat(Monotonic(5.0))
        row.set_connections(3)
        assert row.oldest() == (5.0, None)
        cell.begin(Monotonic(6.0), b"GET /slow")
        reading = row.read()
        assert [(each.cell, each.since, each.text) for each in reading.in_flight] == [(1, 6.0, "GET /slow")]
        assert (reading.heartbeat, reading.connections, reading.busy_since) == (5.0, 3, 6.0)
        assert row.oldest() == (5.0, 6.0)
        cell.clear()
        counters.errors += 1
        counters.add(6.2, 0.2)
        reading = row.read()
        assert (reading.requests, reading.errors, reading.in_flight) == (1, 1, ())
        assert (reading.heartbeat, reading.connections) == (6.2, 3)
        assert reading.busy_seconds == pytest.approx(0.2)
        assert reading.buckets[BUCKETS.index(0.25)] == 1
        del cell, counters  # they have parts of the row's memory


def test_stacks_are_written_behind_the_row() -> None:
    with closing(Row.create(2)) as row:
        assert (row.has_stacks, row.stacks()) == (False, "")
        os.write(row.fd, b"not at its end")
        row.forget_stacks()
        assert (row.has_stacks, row.stacks()) == (False, "")
        os.write(row.fd, b"Thread 1")
        assert (row.has_stacks, row.stacks()) == (True, "Thread 1")
        row.forget_stacks()
        row.write_stacks(b"Thread 2")
        assert (row.has_stacks, row.stacks()) == (True, "Thread 2")


def test_a_long_request_line_is_cut_and_leaves_the_next_cell_alone() -> None:
    with closing(Row.create(2)) as row:
        row.cell(1).begin(Monotonic(1.0), b"second")
        row.cell(0).begin(Monotonic(2.0), b"x" * (MAX_TEXT_BYTES + 50))
        assert [request.text for request in row.read().in_flight] == ["x" * MAX_TEXT_BYTES, "second"]


def test_a_request_longer_than_all_buckets_is_counted_above_them() -> None:
    with closing(Row.create(1)) as row:
        row.counters().add(1000.0, 999.0)
        assert row.read().buckets[-1] == 1


def test_requests_that_are_counted_together_are_shown_together() -> None:
    with closing(Row.create(1)) as row:
        counters = row.counters()
        counters.add(1.0, 0.001)
        for seconds in (0.003, 0.02, 0.02, 999.0):
            counters.count(seconds)
        counters.errors += 1
        assert (row.read().requests, sum(row.read().buckets)) == (1, 1)
        counters.show(2.0)
        counters.show(3.0)
        told = row.read()
        assert (told.requests, told.errors, told.heartbeat) == (5, 1, 3.0)
        assert told.busy_seconds == pytest.approx(999.044)
        assert (told.buckets[0], told.buckets[2], told.buckets[-1], sum(told.buckets)) == (2, 2, 1, 5)
        del counters


def test_counters_of_the_dead_are_added_to_those_of_the_living() -> None:
    with closing(Row.create(1)) as row:
        counters = row.counters()
        for now in (1.003, 2.003):
            counters.add(now, 0.003)
        totals = Totals()
        totals.add(row.read())
        both = totals.with_living([row.read(), Totals(requests=0, restarts=2)])
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
