"""Signals of the application's own that come when none of its requests runs: what its handler raises costs no worker."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support.kinds import EVERY_KIND, application
from tests.support.waiting import eventually
from tests.support.worker import Setup, worker
from unicornd.dataclass import replace
from unicornd.workers.asgi.policy import AsgiPolicy

TIMES = 3


class TooSlowError(Exception):
    """What libraries raise that limit the time of a call."""


def install() -> None:
    def give_up(_number: int, _frame: object) -> None:
        raise TooSlowError("the call takes too long")

    signal.signal(signal.SIGALRM, give_up)


def is_asleep(thread: int) -> bool:
    return Path(f"/proc/{thread}/task/{thread}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def setups() -> dict[str, Setup]:
    found = {kind: Setup(kind=kind, cells=4, before=install) for kind in EVERY_KIND if kind != "asgi"}
    found["threads"] = replace(found["threads"], threads=2)
    for loop in ("asyncio", "uvloop"):
        asgi = AsgiPolicy(lifespan="off", loop=loop)
        found[f"asgi on {loop}"] = Setup(kind="asgi", cells=4, before=install, asgi=asgi)
    return found


@pytest.mark.parametrize("name", setups())
def test_a_signal_handler_that_raises_when_no_request_runs_is_told_and_survived(
    tmp_path: Path, name: str
) -> None:
    setup = setups()[name]
    with worker(application(setup.kind), tmp_path, setup) as running:
        for count in range(1, TIMES + 1):
            with running.connect() as client:
                assert client.get().code == 200
            eventually(lambda: not running.has_clients(), "the worker is idle")
            # Two threads: the main one may still write the line before, into a file that a handler must not write to then.
            eventually(lambda: is_asleep(running.pid), "its main thread, too")
            running.send(signal.SIGALRM)
            eventually(lambda: running.log().count("handler of SIGALRM raised") >= count, "it is told")  # noqa: B023 - waited for here
        running.drain()
        assert running.wait() == 0
