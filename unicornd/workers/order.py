"""What the arbiter asks of a mold: one datagram with descriptors for each worker that it is to fork.

The arbiter sends it over the mold's channel; the mold makes the worker's `Seat` of it. Row, stacks, channel and listeners come as
descriptors (SCM_RIGHTS, unix(7)), so the mold itself listens on nothing.
"""

from __future__ import annotations

import json
import os
import socket

from unicornd.config.values import Address
from unicornd.observe.scoreboard import Row
from unicornd.sockets.credentials import receive
from unicornd.sockets.listener import Listener
from unicornd.units import Fd, Generation, Slot
from unicornd.workers.context import Seat
from unicornd.workers.renewal import KEY
from unicornd.workers.views import told

MAX_ORDER_BYTES = 64 * 1024
MAX_DESCRIPTORS = 250
"""SCM_MAX_FD of the kernel is 253."""


def send_order(mold: socket.socket, seat: Seat) -> None:
    """Ask a mold for the worker of `seat`.

    Args:
        mold: the arbiter's end of the mold's channel, non-blocking.
        seat: its descriptors are copied by the kernel; the caller closes its own.

    Raises:
        OSError: the mold is gone, or does not read.
    """
    order = {
        "slot": seat.slot,
        "generation": seat.generation,
        "pool": seat.pool,
        "age": seat.age,
        "cells": seat.row.cells,
        "listeners": [[str(listener.address), listener.is_inherited] for listener in seat.listeners],
        "kept": told(seat.kept),
    }
    listening = [each.sock.fileno() for each in seat.listeners]
    descriptors = [seat.row.fd, seat.row.stacks.fd, seat.channel.fileno(), *listening]
    socket.send_fds(mold, [json.dumps(order).encode()], descriptors)


def receive_order(mold: Seat) -> Seat | dict[str, int] | None:
    """Return the seat of the worker that is to be forked; None when the arbiter has closed the mold's channel.

    Or log files that were opened anew: path → descriptor (`renewal`).

    Raises:
        OSError: the channel is broken.
        ValueError: it is not from the arbiter, or there are no descriptors left.
    """
    message = receive(mold.channel, MAX_ORDER_BYTES, descriptors=MAX_DESCRIPTORS)
    if message is None:
        return None
    if message.sender != os.getppid():
        message.drop()
        raise ValueError(f"process {message.sender} has sent it, and not the arbiter")
    if message.is_cut:
        message.drop()
        raise ValueError("there are no descriptors left")
    order = json.loads(message.text)
    if KEY in order:
        return dict(zip(order[KEY], message.descriptors, strict=False))
    row, stacks, theirs, *listening = message.descriptors
    listeners = tuple(
        Listener(address=Address.parse(address), sock=socket.socket(fileno=fd), is_inherited=is_inherited)
        for (address, is_inherited), fd in zip(order["listeners"], listening, strict=True)
    )
    for listener in listeners:
        listener.sock.setblocking(False)
    return Seat(
        slot=Slot(order["slot"]),
        generation=Generation(order["generation"]),
        pool=order["pool"],
        age=order["age"],
        listeners=listeners,
        row=Row(Fd(row), Fd(stacks), cells=order["cells"]),
        channel=socket.socket(fileno=theirs),
        lifeline=mold.lifeline,
        handover=mold.handover,
        kept=order["kept"],
    )


def close_seat(seat: Seat) -> None:
    """Let go of a seat's descriptors, in a process that is not its worker."""
    seat.row.close()
    seat.channel.close()
    for listener in seat.listeners:
        listener.sock.close()
