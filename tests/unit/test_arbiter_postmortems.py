"""What is kept of workers that have died: equal failures once."""

from __future__ import annotations

from tests.support.control_port import make_child
from unicornd.arbiter.kernel import Death
from unicornd.arbiter.postmortems import REMEMBERED, Ended, Postmortems, examine
from unicornd.dataclass import replace
from unicornd.units import Monotonic, Pid


def died(postmortems: Postmortems, failure: str, *, wall: float) -> None:
    child = replace(make_child(1), failure=failure)
    death = Death(pid=Pid(8101), code=3, signal=None, peak_memory=0)
    postmortems.keep(
        examine(
            Ended(child=child, death=death, handle=None, reading=None, was_oom=False),
            now=Monotonic(5.0),
            wall=wall,
        )
    )


def test_equal_failures_to_boot_are_one_entry_with_a_count_and_both_times() -> None:
    postmortems = Postmortems(lambda: Monotonic(5.0), lambda: 0.0)
    died(postmortems, "another\ntraceback", wall=1.0)
    for number in range(5):
        died(postmortems, "no module\ntraceback", wall=10.0 + number)
    last, other = postmortems
    assert (last.failure, last.count, last.first, last.wall) == ("no module\ntraceback", 5, 10.0, 14.0)
    assert (other.failure, other.count, other.first) == ("another\ntraceback", 1, 1.0)


def test_workers_that_died_without_a_word_are_kept_one_by_one() -> None:
    postmortems = Postmortems(lambda: Monotonic(5.0), lambda: 0.0)
    for number in range(REMEMBERED + 5):
        died(postmortems, "", wall=float(number))
    assert [each.count for each in postmortems] == [1] * REMEMBERED
