"""Answers that go out together: none is kept from its client by a request that runs longer."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.support.waiting import eventually
from tests.support.worker import Gate, Setup, request, worker

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

SETUP = Setup(threads=2)
SMALL, LARGE = 5, 300_000


def make_app(gate: Gate) -> WSGIApplication:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/slow":
            gate.enter()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"x" * int(environ["QUERY_STRING"] or SMALL)]

    return app


@pytest.mark.parametrize("busy", [0, 1], ids=["a thread is free", "no thread is free"])
def test_an_answer_does_not_wait_for_a_slow_request_of_the_same_look(tmp_path: Path, busy: int) -> None:
    gate = Gate()
    with worker(make_app(gate), tmp_path, SETUP) as running, contextlib.ExitStack() as stack:
        first, slow, other = (stack.enter_context(running.connect()) for _ in range(3))
        for client in (first, slow, other):
            client.get()
        if busy:
            other.send(request("/slow"))
            gate.wait_for(1)
        with running.paused():
            first.send(request())
            slow.send(request("/slow"))
        gate.wait_for(1 + busy)
        assert first.read().code == 200
        assert not gate.is_open
        gate.open()
        assert slow.read().code == 200


def test_answers_of_one_look_reach_their_clients_whole_whatever_their_sizes(tmp_path: Path) -> None:
    with worker(make_app(Gate()), tmp_path, SETUP) as running, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(running.connect()) for _ in range(40)]
        for client in clients:
            client.get()
        sizes = [LARGE if number % 7 == 3 else SMALL + number for number in range(len(clients))]
        with running.paused():
            for client, size in zip(clients, sizes, strict=True):
                client.send(request(f"/?{size}") + request("/?1"))
        for client, size in zip(clients, sizes, strict=True):
            assert len(client.read().body) == size
            assert client.read().body == b"x"
        eventually(lambda: running.reading().requests == 3 * len(clients), "all are counted")


def test_a_client_that_has_gone_costs_the_others_of_its_look_nothing(tmp_path: Path) -> None:
    with worker(make_app(Gate()), tmp_path, SETUP) as running, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(running.connect()) for _ in range(12)]
        for client in clients:
            client.get()
        with running.paused():
            for client in clients:
                client.send(request())
            for client in clients[::3]:
                client.close()
        for number, client in enumerate(clients):
            if number % 3:
                assert client.read().code == 200
                assert client.get().code == 200
