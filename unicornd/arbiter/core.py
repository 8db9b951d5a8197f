"""The state of the fleet, and the one way in which it changes: an event is folded in, and everybody is shown it.

Owned by the arbiter's loop. Whoever has something to do when something happens is an observer, named once, when the core
is made; nobody is called from anywhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from unicornd.arbiter.fold import fold
from unicornd.arbiter.state import State

if TYPE_CHECKING:
    from unicornd.arbiter.events import Event


class Observer(Protocol):
    """Is shown each event with the states before and after it; it changes neither, and raises nothing."""

    def __call__(self, event: Event, *, previous: State, state: State) -> None:
        """Take note."""


class Core:
    """The state.

    Args:
        observers: shown each event, in this order.

    Attributes:
        state: the present one.
    """

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers
        self.state = State()

    def take(self, event: Event) -> None:
        """Fold an event in, and show it to the observers."""
        previous, self.state = self.state, fold(self.state, event)
        for observe in self._observers:
            # What an observer makes happen itself has happened by now, too: each sees the newest state.
            observe(event, previous=previous, state=self.state)
