"""`server.reuse_port`: several fleets on one TCP port, and one of them stops without a loss."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.process.test_shell_systemd import activate, address_of
from tests.process.test_upgrade import upgrade
from tests.support.fleet import Fleet, fleet_in
from tests.support.traffic import Traffic
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

REFUSED = "ConnectionRefusedError"
TCP_INFO_BYTES, TOTAL_RETRANS = 104, 100
"""struct tcp_info (linux/tcp.h): its first version, and where tcpi_total_retrans is in it."""


@pytest.fixture
def fleet_named(tmp_path: Path) -> Iterator[Callable[[str], Fleet]]:
    """Make a fleet that answers with its name, not started yet."""
    with contextlib.ExitStack() as stack:

        def make(name: str) -> Fleet:
            folder = tmp_path / name
            folder.mkdir()
            fleet = stack.enter_context(fleet_in(folder))
            fleet.change("site_app.py", '"v1"', f'"{name}"')
            fleet.change("site_app.py", 'f"{VERSION} {os.getpid()}"', "VERSION")
            return fleet

        yield make


def share(fleet: Fleet, address: str = "127.0.0.1:0", *arguments: str) -> str:
    """Start a fleet that shares its port; return where it listens."""
    fleet.start("--reuse-port", "-b", address, *arguments)
    [bound] = fleet.addresses()
    return bound


def answers(fleet: Fleet, address: str, names: set[str]) -> None:
    """Ask over new connections until everybody who is named has answered, and nobody else."""
    seen: set[str] = set()

    def have_answered() -> bool:
        seen.add(fleet.get(address=address))
        return seen >= names

    eventually(have_answered, f"{names} answer")
    assert seen == names


def asks(fleet: Fleet, address: str, *, is_keepalive: bool = False) -> Traffic:
    return Traffic(partial(fleet.connect, address), clients=8, is_keepalive=is_keepalive)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "[::1]", "[::]"])
def test_two_fleets_on_one_port_both_answer_and_one_goes_on_alone(
    fleet_named: Callable[[str], Fleet], host: str
) -> None:
    blue, green = fleet_named("blue"), fleet_named("green")
    address = share(blue, f"{host}:0")
    share(green, address)
    place = address.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")
    answers(green, place, {"blue", "green"})
    assert blue.end() == 0
    answers(green, place, {"green"})


def test_without_the_setting_a_second_fleet_is_told_who_has_the_port(
    fleet_named: Callable[[str], Fleet],
) -> None:
    blue, green = fleet_named("blue"), fleet_named("green")
    blue.start()
    [address] = blue.addresses()
    done = green.run("-b", address)
    assert done.returncode == 1
    assert f"cannot listen on {address}: the address is in use" in done.stderr
    assert "can share it if each of them sets server.reuse_port" in done.stderr
    assert blue.get() == "blue"


@pytest.mark.parametrize("who", ["first", "second"])
def test_a_port_is_shared_only_if_both_say_so(fleet_named: Callable[[str], Fleet], who: str) -> None:
    blue, green = fleet_named("blue"), fleet_named("green")
    blue.start(*(["--reuse-port"] if who == "first" else []))
    [address] = blue.addresses()
    done = green.run("-b", address, *(["--reuse-port"] if who == "second" else []))
    assert done.returncode == 1
    hint = "must be there, too" if who == "second" else "if each of them sets server.reuse_port"
    assert hint in done.stderr


def test_it_is_refused_where_there_is_no_port_to_share(fleet_named: Callable[[str], Fleet]) -> None:
    blue = fleet_named("blue")
    done = blue.run("--reuse-port", "-b", f"unix:{blue.folder / 'web.sock'}")
    assert done.returncode == 78
    assert "server.reuse_port has no effect: no address of server.bind is a TCP port" in done.stderr


@pytest.mark.parametrize("kind", ["sync", "threads", "gevent", "asgi"])
@pytest.mark.parametrize("leaving", ["older", "younger"])
def test_a_fleet_that_stops_under_load_loses_nothing_while_the_other_serves(
    fleet_named: Callable[[str], Fleet], leaving: str, kind: str
) -> None:
    blue, green = fleet_named("blue"), fleet_named("green")
    if kind == "asgi":
        for fleet in (blue, green):
            as_asgi(fleet)
    arguments = [] if kind == "asgi" else ["-k", kind, *(["--threads", "2"] if kind == "threads" else [])]
    address = share(blue, "127.0.0.1:0", *arguments)
    share(green, address, *arguments)
    stopped, stays = (blue, "green") if leaving == "older" else (green, "blue")
    with asks(blue, address) as traffic:
        eventually(traffic.saw("blue"), "blue answers")
        eventually(traffic.saw("green"), "green answers")
        assert stopped.end() == 0
        eventually(traffic.answered_more(50), "requests are answered")
    assert traffic.tally.failures == []
    assert traffic.tally.bodies[stays] > 0


def test_newcomers_do_not_wait_for_a_fleet_that_still_finishes_a_request(
    fleet_named: Callable[[str], Fleet],
) -> None:
    blue, green = fleet_named("blue"), fleet_named("green")
    address = share(blue, "127.0.0.1:0", "-k", "sync", "-w", "1")
    connection = blue.connect(address)
    connection.request("GET", "/wait")
    blue_is_busy(blue)
    share(green, address)
    blue.send(signal.SIGTERM)
    blue.await_state("stopping")
    assert [repeated_packets(address) for _ in range(40)] == [0] * 40, (
        "nobody had to ask for a connection twice"
    )
    answers(green, address, {"green"})
    blue.open_gate()
    assert connection.getresponse().read() == b"blue"
    assert blue.exit_code() == 0


def test_who_stays_shares_the_newcomers_again_when_the_third_has_gone(
    fleet_named: Callable[[str], Fleet],
) -> None:
    fleets = {name: fleet_named(name) for name in ("blue", "green", "red")}
    address = "127.0.0.1:0"
    for fleet in fleets.values():
        address = share(fleet, address)
    answers(fleets["red"], address, set(fleets))
    assert fleets["blue"].end() == 0
    answers(fleets["red"], address, {"green", "red"})


def test_the_last_fleet_on_a_port_answers_what_is_queued_and_refuses_the_others(
    fleet_named: Callable[[str], Fleet],
) -> None:
    blue = fleet_named("blue")
    address = share(blue)
    with asks(blue, address) as traffic:
        eventually(traffic.answered_more(50), "requests are answered")
        assert blue.end() == 0
        eventually(lambda: traffic.tally.failures, "nobody listens any more")
    assert [failure for failure in traffic.tally.failures if not failure.startswith(REFUSED)] == []


def test_after_an_upgrade_the_port_is_still_shared_and_can_be_left(
    fleet_named: Callable[[str], Fleet],
) -> None:
    blue, green = fleet_named("blue"), fleet_named("green")
    address = share(blue)
    share(green, address)
    assert blue.process is not None
    before = blue.process
    with asks(green, address) as traffic:
        assert upgrade(blue)[0] == 0
        eventually(lambda: before.poll() is not None, "the old arbiter has left")
        eventually(traffic.saw("blue"), "the new one answers")
        eventually(traffic.saw("green"), "so does the other fleet")
        os.kill(blue.status()["arbiter"]["pid"], signal.SIGTERM)
        eventually(lambda: not blue.processes(), "it has ended")
        eventually(traffic.answered_more(50), "requests are answered")
    assert traffic.tally.failures == []


def test_a_socket_that_systemd_opened_goes_on_taking_its_share_after_the_stop(
    fleet_named: Callable[[str], Fleet],
) -> None:
    blue, green = fleet_named("blue"), fleet_named("green")
    with socket.socket() as passed:
        passed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # a socket unit's ReusePort=yes
        passed.bind(("127.0.0.1", 0))
        passed.listen(64)
        address = address_of(passed)
        share(green, address)
        activate(blue, passed, ("-b", "fd://web"))
        blue.await_state("ready")
        answers(green, address, {"blue", "green"})
        assert blue.end() == 0
        passed.setblocking(False)

        def is_queued() -> bool:
            with socket.create_connection(passed.getsockname(), timeout=20):
                return is_accepted(passed)

        eventually(is_queued, "newcomers wait for the next start")


def is_accepted(listening: socket.socket) -> bool:
    try:
        listening.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def repeated_packets(address: str) -> int:
    """Connect; return how many packets the client had to send again: the kernel does so after a second."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as client:
        info = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
        repeated: int = struct.unpack_from("=I", info, TOTAL_RETRANS)[0]
        return repeated


def blue_is_busy(fleet: Fleet) -> None:
    eventually(lambda: any(worker["now"] for worker in fleet.status()["workers"]), "the request has begun")


def as_asgi(fleet: Fleet) -> None:
    name = fleet.folder.name
    fleet.write(
        "site_app.py",
        "async def application(scope, receive, send):\n"
        "    if scope['type'] != 'http':\n"
        "        raise RuntimeError(scope['type'])\n"
        "    await send({'type': 'http.response.start', 'status': 200,\n"
        f"                'headers': [(b'content-length', b'{len(name)}')]}})\n"
        f"    await send({{'type': 'http.response.body', 'body': b'{name}'}})\n",
    )
