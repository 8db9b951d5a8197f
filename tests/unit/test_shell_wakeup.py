"""What wakes the arbiter's loop."""

from __future__ import annotations

import selectors
import socket
from functools import partial

from unicornd.arbiter.wakeup import hear


def test_what_another_one_of_the_same_wait_has_ended_is_passed_over() -> None:
    told: list[int] = []
    pairs = [socket.socketpair() for _ in range(2)]
    with selectors.DefaultSelector() as selector:

        def end_the_other(number: int, _mask: int) -> None:
            told.append(number)
            other = pairs[1 - number][0]
            selector.unregister(other)
            other.close()

        for number, (ours, theirs) in enumerate(pairs):
            selector.register(ours, selectors.EVENT_READ, partial(end_the_other, number))
            theirs.send(b"x")
        hear(selector, 5)
    for pair in pairs:
        for sock in pair:
            sock.close()
    assert len(told) == 1
