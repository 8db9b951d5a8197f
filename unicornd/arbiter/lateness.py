"""The arbiter's own lateness, which is nobody else's: how much longer the others may take for it.

Pure. When everything has stood still (a suspended machine, a frozen cgroup, a stopped arbiter), CLOCK_MONOTONIC may go on, and
whoever runs first afterwards finds all others overdue. So each deadline is moved by the time for which the arbiter was
late while it ran: from when it had wanted to wake up until it did.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from unicornd.units import Seconds

if TYPE_CHECKING:
    from collections.abc import Iterable

    from unicornd.units import Monotonic

LATE = 0.5
"""Seconds by which the arbiter has to be late: what is less is a busy machine, whose other processes are served alike."""
REMEMBERED = 16
"""Latest spells that are kept: an older one matters only to what runs longer than all of these together."""


class Spell(NamedTuple):
    """A time in which the arbiter should have been awake, and was not."""

    since: Monotonic
    until: Monotonic


def owed(spells: Iterable[Spell], since: Monotonic) -> Seconds:
    """Return by how many seconds a deadline moves that runs since `since`."""
    return Seconds(sum(max(0.0, spell.until - max(spell.since, since)) for spell in spells))
