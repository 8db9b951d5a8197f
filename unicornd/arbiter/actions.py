"""What is to be done: `plan` asks for these, `perform` does them and answers with events.

Pure values. Each has an event that makes the plan stop asking for it: Spawn → Spawned, SpawnAsked or SpawnFailed,
Command → Ordered or Exited, LeaveListeners → ListenersLeft, FinishRollout → RolloutFinished, AbandonRollout → RolloutAbandoned; Leave ends the loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unicornd.arbiter.state import Role
from unicornd.dataclass import dataclass

if TYPE_CHECKING:
    from unicornd.arbiter.state import Order
    from unicornd.units import Generation, Monotonic, Pid, Slot


@dataclass(frozen=True, slots=True, kw_only=True)
class Spawn:
    """Fork a child into this slot; a mold has slot 0."""

    pool: str
    slot: Slot
    generation: Generation
    why: str
    role: Role = Role.WORKER


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Give a child an order."""

    pid: Pid
    order: Order
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishRollout:
    """The new generation is complete: adopt its configuration, release what only the old one needed."""

    pool: str
    generation: Generation


@dataclass(frozen=True, slots=True, kw_only=True)
class AbandonRollout:
    """The new generation failed: release what only it needed, keep the old configuration."""

    pool: str
    generation: Generation
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveListeners:
    """Let nobody new in: everything is about to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave:
    """Nothing is left to supervise: end the daemon. `cause` is `halt`, `app` or `boot`."""

    cause: str
    reason: str


Action = Spawn | Command | FinishRollout | AbandonRollout | LeaveListeners | Leave


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do now, and when to think again if nothing happens before (None: only when something happens)."""

    actions: tuple[Action, ...]
    wake_at: Monotonic | None
