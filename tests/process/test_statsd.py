"""Numbers for statsd, as a daemon on the other end sees them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.support.fleet import Fleet, fleet_in
from tests.support.receiver import Receiver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with fleet_in(tmp_path) as made:
        yield made


def say(fleet: Fleet, text: str) -> None:
    with (fleet.folder / "unicornd.toml").open("a") as file:
        file.write(text)


def test_requests_workers_and_queues_are_sent_with_gunicorns_names(fleet: Fleet) -> None:
    with Receiver.net() as daemon:
        say(fleet, f"[metrics]\nstatsd = '127.0.0.1:{daemon.port}'\nstatsd_prefix = 'shop'\nbacklog = true\n")
        fleet.start("-w", "2")
        fleet.get("/")
        packet = daemon.await_message(lambda text: "gunicorn.requests" in text, "a request")
        duration, requests, status = packet.split("\n")
        assert re.fullmatch(r"shop\.gunicorn\.request\.duration:[0-9.]+\|ms", duration)
        assert requests == "shop.gunicorn.requests:1|c|@1.0"
        assert status == "shop.gunicorn.request.status.200:1|c|@1.0"
        daemon.await_message(lambda text: text == "shop.gunicorn.workers:2|g", "the number of workers")
        daemon.await_message(lambda text: text == "shop.gunicorn.backlog:0|h", "the queue's length")


def test_a_unix_socket_gets_tagged_metrics_and_those_of_log_calls(fleet: Fleet) -> None:
    fleet.write(
        "site_app.py",
        "import logging\n"
        "log = logging.getLogger('gunicorn.error')\n"
        "def application(environ, start_response):\n"
        "    log.info('', extra={'metric': 'shop.carts', 'value': 7, 'mtype': 'gauge'})\n"
        "    log.warning('a warning')\n"
        "    try:\n"
        "        1 / 0\n"
        "    except ZeroDivisionError:\n"
        "        log.exception('an exception')\n"
        "    start_response('200 OK', [('Content-Length', '0')])\n"
        "    return []\n",
    )
    with Receiver.unix(fleet.folder / "statsd.sock") as daemon:
        say(fleet, f"[metrics]\nstatsd = 'unix:{fleet.folder}/statsd.sock'\ndogstatsd_tags = 'env:test'\n")
        fleet.start("-w", "1")
        fleet.get("/")
        for wanted in (
            "shop.carts:7|g|#env:test",
            "gunicorn.log.warning:1|c|@1.0|#env:test",
            "gunicorn.log.exception:1|c|@1.0|#env:test",
            "gunicorn.workers:1|g|#env:test",
        ):
            daemon.await_message(lambda text, wanted=wanted: text == wanted, wanted)  # type: ignore[misc] # the default is of the loop
        assert "shop.carts" not in fleet.log


def test_a_fleet_serves_when_nobody_takes_its_numbers(fleet: Fleet) -> None:
    say(fleet, f"[metrics]\nstatsd = 'unix:{fleet.folder}/nobody.sock'\n")
    fleet.start()
    assert fleet.get("/").startswith("v1")


def test_the_queue_of_a_unix_socket_is_known(fleet: Fleet) -> None:
    fleet.start("-b", f"unix:{fleet.folder}/web.sock")
    assert fleet.status()["listeners"][0]["queue"] == 0
