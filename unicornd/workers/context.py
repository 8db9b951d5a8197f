"""What a worker is given: its seat, from the arbiter, and its context, which `boot` makes of seat and settings.

The arbiter makes a `Seat` before it forks; the child receives it through the fork (no serialisation). Nothing
in a seat depends on the application or on pydantic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

    from unicornd.observe.scoreboard import Row
    from unicornd.sockets.listener import Listener
    from unicornd.units import Fd, Generation, Slot


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """One worker's place: who it is, what it listens on, how it reports, how it learns that it is alone.

    Attributes:
        slot: its place in the pool, from 1.
        generation: which load of configuration and code it belongs to.
        pool: the pool's name, `web`.
        age: how many workers were spawned before it, from 1 (gunicorn's `worker.age`).
        listeners: open listening sockets, shared with the other workers, non-blocking.
        row: its row of the scoreboard; only the worker writes it.
        channel: SOCK_SEQPACKET socket; the worker sends reports (`workers.channel`), the arbiter reads them.
        lifeline: read end of a pipe whose only writer is the arbiter; readable (EOF) when the arbiter is gone.
    """

    slot: Slot
    generation: Generation
    pool: str
    age: int
    listeners: tuple[Listener, ...]
    row: Row
    channel: socket.socket
    lifeline: Fd
