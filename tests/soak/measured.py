"""What one repetition of a fault has shown, and the sum of many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.support.traffic import Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Counts and durations.

    Attributes:
        answered: requests with the right answer.
        lost: requests that were sent and got none: reset, cut off, wrong.
        refused: connections that were refused.
        longest: seconds that the slowest answer took.
        seconds: of what the row is about (a reload, a detection); 0 if there is no such thing.
    """

    answered: int = 0
    lost: int = 0
    refused: int = 0
    longest: float = 0.0
    seconds: float = 0.0


def measured(tally: Tally, *, seconds: float = 0.0) -> Measured:
    """Sort what clients saw."""
    refused = sum("refused" in failure.lower() for failure in tally.failures)
    wrong = len(tally.failures) - refused
    return Measured(
        answered=tally.answered, lost=wrong, refused=refused, longest=tally.longest, seconds=seconds
    )


def total(repetitions: Iterable[Measured]) -> Measured:
    """Counts are added up; of durations the longest one counts."""
    everything = tuple(repetitions)
    return Measured(
        answered=sum(each.answered for each in everything),
        lost=sum(each.lost for each in everything),
        refused=sum(each.refused for each in everything),
        longest=max((each.longest for each in everything), default=0.0),
        seconds=max((each.seconds for each in everything), default=0.0),
    )
