"""A pool's molds: which one forks for it, and which are not needed any more.

Pure; made for one plan. A generation that is molded has one mold. It stays as long as its generation is desired, or may
be again (during a rollout, the one that would come back). A mold that dies is replaced; its workers are not touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unicornd.arbiter.lateness import owed
from unicornd.arbiter.state import Phase
from unicornd.dataclass import dataclass
from unicornd.units import Monotonic

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from unicornd.arbiter.state import Child, Pool, State

FORK_PATIENCE = 10.0
"""Seconds that a mold may take to fork a worker; one that is stuck is killed, and all that was asked of it has failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Molds:
    """The molds of one pool.

    Attributes:
        present: the one of the desired generation, booting or ready, or None.
        obsolete: those that nobody needs.
    """

    pool: Pool
    present: Child | None
    obsolete: tuple[Child, ...]

    @classmethod
    def of(cls, state: State, pool: Pool) -> Self:
        """Sort the molds of `pool`."""
        rollout = state.rollouts.get(pool.name)
        desired = [pool] if rollout is None else [pool, rollout.previous]
        wanted = {each.generation for each in desired if each.is_molded}
        ours = [mold for mold in state.molds.values() if mold.pool == pool.name and mold.phase <= Phase.READY]
        present = [mold for mold in ours if mold.generation == pool.generation and pool.is_molded]
        return cls(
            pool=pool,
            present=present[0] if present else None,
            obsolete=tuple(mold for mold in ours if mold.generation not in wanted),
        )

    @property
    def is_missing(self) -> bool:
        """Whether one has to be forked."""
        return self.pool.is_molded and self.present is None

    @property
    def is_ready(self) -> bool:
        """Whether workers can be had."""
        return not self.pool.is_molded or (self.present is not None and self.present.phase is Phase.READY)


def stuck_molds(state: State) -> Iterator[tuple[Child, Monotonic]]:
    """Yield each mold that owes a worker, and until when it is waited for."""
    for mold in state.molds.values():
        if mold.phase is not Phase.READY:
            continue
        asked = [each.asked_at for each in state.expected.values() if each.mold == mold.pid]
        if asked:
            since = min(asked)
            yield mold, Monotonic(since + FORK_PATIENCE + owed(state.lateness, since))
