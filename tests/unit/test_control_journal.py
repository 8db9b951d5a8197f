from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from unicornd.arbiter.journal import Journal


def make_journal(count: int, *, capacity: int = 10) -> Journal:
    journal = Journal(lambda: 5.0, capacity=capacity)
    for number in range(1, count + 1):
        journal.append("thing.happened", f"number {number}", number=number)
    return journal


def test_an_entry_has_number_time_kind_facts_and_one_line_of_text() -> None:
    journal = Journal(lambda: 5.0)
    journal.append("worker.died", "worker 3\n  died", slot=3)
    (entry,) = journal.since(0)
    assert (entry.seq, entry.at, entry.kind, entry.text, entry.facts) == (
        1, 5.0, "worker.died", "worker 3 died", {"slot": 3},
    )  # fmt: skip


def test_an_empty_journal_has_nothing_to_tell() -> None:
    assert make_journal(0).since(0) == ()
    assert make_journal(0).last == 0


@given(count=st.integers(0, 40), seen=st.integers(0, 60), capacity=st.integers(1, 20))
def test_a_reader_gets_everything_newer_that_is_still_kept(count: int, seen: int, capacity: int) -> None:
    found = [entry.seq for entry in make_journal(count, capacity=capacity).since(seen)]
    assert found == list(range(max(seen, count - capacity, 0) + 1, count + 1))


@given(count=st.integers(0, 40), wanted=st.integers(0, 60))
def test_the_tail_is_the_newest_entries_oldest_first(count: int, wanted: int) -> None:
    found = [entry.seq for entry in make_journal(count).tail(wanted)]
    kept = list(range(max(count - 10, 0) + 1, count + 1))
    assert found == (kept[-wanted:] if wanted else [])
