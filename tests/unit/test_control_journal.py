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


@given(former=st.integers(0, 12), own=st.integers(0, 12))
def test_what_a_predecessor_has_written_stands_in_front_and_is_numbered_on_from(
    former: int, own: int
) -> None:
    journal = make_journal(own)
    journal.inherit(make_journal(former).since(0))
    journal.append("thing.happened", "the next")
    found = journal.since(0)
    before = [f"number {number}" for number in range(1, former + 1)][-10:]
    after = [f"number {number}" for number in range(1, own + 1)][-10:]
    assert [entry.text for entry in found] == [*before, *after, "the next"][-10:]
    first = found[0].seq
    assert [entry.seq for entry in found] == list(range(first, first + len(found)))
    if former:
        assert journal.last == former + min(own, 10) + 1
