"""What a compromised worker can do: it costs its own requests and nothing else.

The arbiter is root, the workers are `nobody`, and their application attacks. After each attack the arbiter answers, a
sibling serves, a bystander lives, root's file is as it was, and the fleet becomes whole. `docs/SECURITY.md` has the table
of the attacks and what is inherent in what workers share.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.hostile import Cell, Prison, why_not
from tests.support.hostile import prison as prison_of
from tests.support.waiting import eventually
from unicornd.control.client import Client, ControlError
from unicornd.errors import DaemonExit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REFUSAL = why_not()
pytestmark = [
    pytest.mark.skipif(bool(REFUSAL), reason=REFUSAL),
    pytest.mark.xdist_group("hostile worker"),
]

ESCAPES = "\x1b[31m\x1b]0;owned\x07\x9b2J"
FORGED = "2026-11-30 23:59:59 +0000 [1] [INFO] FORGED"


@pytest.fixture(scope="module")
def cell() -> Iterator[Cell]:
    cell = Cell()
    yield cell
    cell.close()


@pytest.fixture
def prison(cell: Cell) -> Prison:
    """A fleet of direct workers, all ready; shared by the tests until one ends it."""
    return cell.prison()


@pytest.fixture(scope="module")
def molded_cell() -> Iterator[Cell]:
    cell = Cell(is_preloaded=True)
    yield cell
    cell.close()


@pytest.fixture
def molded(molded_cell: Cell) -> Prison:
    """The same with a mold."""
    return molded_cell.prison()


def sibling_of(prison: Prison, attacker: int) -> int:
    return next(pid for pid in prison.pids().values() if pid != attacker)


# Reports.

PIDS: dict[str, Callable[[Prison], object]] = {
    "init": lambda _: 1,
    "its own group": lambda _: 0,
    "everybody": lambda _: -1,
    "true": lambda _: True,
    "a huge number": lambda _: 10**30,
    "a negative number": lambda _: -(10**30),
    "a bystander": lambda prison: prison.bystander,
    "the arbiter": lambda prison: prison.arbiter,
    "a sibling": lambda prison: sibling_of(prison, 0),
    "a fraction": lambda _: 1.5,
    "nothing": lambda _: None,
}


@pytest.mark.parametrize("whose", PIDS)
def test_a_worker_that_says_it_has_another_pid_is_not_believed(prison: Prison, whose: str) -> None:
    answer = prison.attack("claim", pid=PIDS[whose](prison))
    prison.assert_unharmed(without=answer["pid"])


NONSENSE = {
    "deep lists": ("[", 60_000),
    "deep objects": ('{"report":', 6_000),
    "a long number": ("9", 60_000),
    "not UTF-8": ("ready\0\xff\xfe\x00", 1),
    "only separators": ("\0", 60_000),
    "longer than a report may be": ("x", 150_000),
    "an unknown report": ("tired\0", 1),
    "too few fields": ("boot_failed", 1),
    "too many fields": ("ready\0threads\0and\0more", 1),
}


@pytest.mark.parametrize("what", NONSENSE)
def test_a_report_that_is_nonsense_costs_no_more_than_its_worker(prison: Prison, what: str) -> None:
    text, times = NONSENSE[what]
    answer = prison.attack("say_bytes", text=text, times=times)
    prison.assert_unharmed(without=answer["pid"])


READY = ["ready", "threads"]


@pytest.mark.parametrize("fields", [READY, ["retiring", "x"], ["tired"]], ids="-".join)
def test_a_worker_that_floods_its_channel_does_not_hold_the_arbiter(
    prison: Prison, fields: list[str]
) -> None:
    prison.attack_blindly("flood", fields=fields)
    prison.assert_unharmed()


def test_a_child_of_a_worker_that_floods_its_channel_does_not_hold_the_arbiter(prison: Prison) -> None:
    before = len(prison.log)
    answer = prison.attack("flood_from_a_child", fields=READY)
    prison.assert_unharmed(without=answer["pid"])
    eventually(lambda: not prison.is_alive(answer["did"]), "the flooding child has ended")
    prison.assert_unharmed(without=answer["pid"])
    assert prison.log[before:].count("is ready") < 20, "the log was not flooded"


def test_descriptors_in_reports_do_not_stay_in_the_arbiter(prison: Prison) -> None:
    answer = prison.attack("send_descriptors", times=40)
    prison.assert_unharmed(without=answer["pid"])


def test_a_worker_that_closes_its_channel_stays_alone_with_that(prison: Prison) -> None:
    answer = prison.attack("close_channel")
    prison.assert_unharmed(without=answer["pid"])


FORGERIES: dict[str, list[str]] = {
    "ready": ["ready", f"<script>{ESCAPES}\n{FORGED}"],
    "retiring": ["retiring", f"{ESCAPES}\n{FORGED}"],
    "boot_failed": ["boot_failed", "app", f"{ESCAPES}\n{FORGED}", f"\n{FORGED}\r{FORGED}{ESCAPES}"],
}


@pytest.mark.parametrize("kind", FORGERIES)
def test_reports_reach_neither_the_log_nor_the_terminal_as_more_than_text(prison: Prison, kind: str) -> None:
    answer = prison.attack("say", fields=FORGERIES[kind])
    prison.assert_unharmed(without=answer["pid"])
    shown = b"".join(
        prison.ctl(*words).stdout for words in (("status",), ("events", "--since", "0"), ("why",))
    )
    for what, text in (("the log", prison.log), ("the terminal", shown.decode())):
        lines = text.replace("\r", "\n").split("\n")
        assert not [line for line in lines if line.startswith(FORGED)], f"a line of {what} is forged"
        assert not set(text) & {"\x1b", "\x07", "\x9b", "\0"}, f"{what} has control characters"
    assert "<script>" not in shown.decode()


# Shared memory.

MEMORY: dict[str, tuple[str, dict[str, Any]]] = {
    "the row is truncated": ("resize_row", {"size": 0}),
    "the row becomes huge": ("resize_row", {"size": 1 << 44}),
    "every memfd is truncated": ("resize_memfds", {"size": 0}),
    "every memfd becomes huge": ("resize_memfds", {"size": 1 << 44}),
    "all bits are set": ("fill_row", {"byte": 0xFF}),
    "all bytes are 0x7f": ("fill_row", {"byte": 0x7F}),
    "NaN": ("set_times", {"text": "nan"}),
    "infinite": ("set_times", {"text": "inf"}),
    "before everything": ("set_times", {"text": "-inf"}),
    "negative": ("set_times", {"text": "-1"}),
    "in the future": ("set_times", {"text": "1e12"}),
    "the largest number": ("set_times", {"text": "1.7e308"}),
    "the smallest number": ("set_times", {"text": "5e-324"}),
    "the offsets are moved": ("move_offsets", {"offset": 1 << 40}),
    "written behind the ends": ("write_behind_rows", {"size": 1 << 20}),
}


SHOWN = frozenset({"all bits are set", "NaN"})
"""After which a person looks, too: each look is a process."""


@pytest.mark.parametrize("what", MEMORY)
def test_whatever_a_worker_writes_into_shared_memory_the_arbiter_goes_on(prison: Prison, what: str) -> None:
    name, arguments = MEMORY[what]
    answer = prison.attack(name, **arguments)
    prison.assert_unharmed(without=answer["pid"], is_whole=False)
    if slot := {pid: slot for slot, pid in prison.pids().items()}.get(answer["pid"]):
        with contextlib.suppress(ControlError):  # it may be gone by now
            assert "\x1b" not in prison.client.post(f"/v1/workers/{slot}/stacks")["stacks"]
    if what in SHOWN:
        shown = prison.ctl("status")
        assert (shown.returncode, b"Traceback" in shown.stderr) == (0, False), shown
    prison.attack_blindly("send_signal", pid=answer["pid"], number=int(signal.SIGKILL))
    prison.assert_unharmed(without=answer["pid"])


# What siblings share.

SHARED: dict[str, tuple[str, dict[str, Any]]] = {
    "the lifeline is closed": ("close_lifeline", {}),
    "a handover of no message": ("hand_over_garbage", {"head": "00"}),
    "a handover of garbage": ("hand_over_garbage", {"head": "ffff", "fill": 3000}),
    "a handover of deep lists": ("hand_over_garbage", {"head": "03f0", "fill": 0x3F0}),
    "a handover of many deep lists": ("hand_over_garbage", {"head": "4000", "fill": 0x4000}),
    "a flood of garbage": ("hand_over_garbage", {"head": "0002ffff", "times": 3000}),
    "foreign descriptors": ("hand_over_things", {}),
    "the pair is full": ("fill_handover", {}),
    "the pair is emptied": ("drain_handover", {}),
    "connections are held": ("accept_and_hold", {"count": 50}),
    "listeners wait": ("make_listeners_wait", {}),
    "flags of standard streams": ("give_log_flags", {}),
    "the pair is shut": ("shut_handover", {}),
}


@pytest.mark.parametrize("what", SHARED)
def test_what_siblings_share_can_be_misused_and_the_siblings_serve(prison: Prison, what: str) -> None:
    name, arguments = SHARED[what]
    answer = prison.attack(name, **arguments)
    assert "error" not in answer
    prison.assert_unharmed(without=answer["pid"], is_whole=False)
    assert prison.reload() == "done", prison.log[-3000:]
    prison.assert_unharmed(without=answer["pid"])


# Other processes, and what the kernel refuses.


def test_the_kernel_refuses_a_worker_what_is_roots(prison: Prison) -> None:
    arbiter = prison.arbiter
    refused: list[tuple[str, dict[str, Any]]] = [
        ("send_signal", {"pid": arbiter, "number": int(signal.SIGTERM)}),
        ("send_signal", {"pid": prison.bystander, "number": int(signal.SIGTERM)}),
        ("read_file", {"path": f"/proc/{arbiter}/environ"}),
        ("read_file", {"path": f"/proc/{arbiter}/maps"}),
        ("open_to_write", {"path": f"/proc/{arbiter}/mem"}),
        ("list_folder", {"path": f"/proc/{arbiter}/fd"}),
        ("read_file", {"path": str(prison.precious)}),
        ("open_to_write", {"path": str(prison.folder / "unicornd.toml")}),
        ("trace", {"pid": arbiter}),
        ("limit", {"pid": arbiter}),
        ("connect", {"path": prison.client.address}),
        ("become_root", {}),
    ]
    for name, arguments in refused:
        answer = prison.attack(name, **arguments)
        assert "PermissionError" in answer.get("error", ""), (name, arguments, answer)
    prison.assert_unharmed()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGSEGV])
def test_a_sibling_that_gets_a_signal_is_replaced(prison: Prison, number: signal.Signals) -> None:
    answer = prison.attack("signal_sibling", pids=list(prison.pids().values()), number=int(number))
    eventually(lambda: not prison.is_alive(answer["did"]), "the sibling is gone", patience=30)
    prison.assert_unharmed(without=answer["pid"])


def test_a_fleet_whose_workers_are_all_killed_by_one_comes_back(prison: Prison) -> None:
    before = set(prison.pids().values())
    prison.attack_blindly("signal_everybody")
    eventually(lambda: len(before & set(prison.pids().values())) <= 1, "the others are gone")
    prison.assert_unharmed()


# Files in a folder that belongs to the workers' user.

PLANTED = ("symlink", "hard link", "fifo", "folder")


def plant(prison: Prison, name: str, kind: str) -> None:
    """Put something in a file's place: as a worker would, or as it could where hard links are not protected (proc(5))."""
    path, target = prison.theirs / name, str(prison.precious)
    if kind == "hard link":
        path.unlink(missing_ok=True)
        path.hardlink_to(target)
        return
    answer = prison.attack("plant", path=str(path), kind=kind, target=target)
    assert "error" not in answer


def reopen(prison: Prison) -> None:
    """As `unicornctl reopen`: wait for its end, whichever that is."""
    path = f"/v1/operations/{prison.client.post('/v1/reopen')['id']}"
    eventually(lambda: prison.client.get(path)["state"] != "running", "the logs are reopened or refused")


@pytest.mark.parametrize("kind", PLANTED)
@pytest.mark.parametrize("name", ["error.log", "access.log"])
def test_a_log_that_is_replaced_is_not_followed_as_root(prison: Prison, name: str, kind: str) -> None:
    plant(prison, name, kind)
    before = prison.facts()
    prison.attack_blindly("die")
    prison.assert_unharmed()
    reopen(prison)
    prison.assert_unharmed()
    assert prison.facts() == before
    planted = prison.theirs / name
    planted.rmdir() if kind == "folder" else planted.unlink()
    reopen(prison)
    prison.assert_unharmed()


def test_a_reload_with_planted_logs_touches_nothing_of_roots(prison: Prison) -> None:
    for name in ("error.log", "access.log"):
        plant(prison, name, "symlink")
    prison.reload()
    prison.assert_unharmed()
    for name in ("error.log", "access.log"):
        (prison.theirs / name).unlink()
    assert prison.reload() == "done"
    prison.assert_unharmed()


LINKS = {
    "the pidfile": "fleet.pid",
    "the pidfile's drafts": ".fleet.pid.{}",
    "the error log": "error.log",
    "the access log": "access.log",
    "the control socket": "control.sock",
    "the control socket's lock": ".control.sock.lock",
    "the listener": "web.sock",
}


@pytest.mark.parametrize("what", LINKS)
def test_links_that_wait_for_a_start_lead_root_nowhere(what: str) -> None:
    with prison_of() as prison:
        prison.change("unicornd.toml", '"127.0.0.1:0"', '["127.0.0.1:0", "unix:theirs/web.sock"]')
        for number in range(1, 400):
            link = prison.theirs / LINKS[what].format(number)
            if not link.is_symlink():
                link.symlink_to(prison.precious)
        before = prison.facts()
        socket_path = str(prison.theirs / "control.sock")
        process = prison.spawn(UNICORND_CONTROL__SOCKET=socket_path)
        client = Client(address=socket_path)

        def is_settled() -> bool:
            """It serves, or has refused to start."""
            with contextlib.suppress(ControlError):
                return bool(client.get("/v1/status")["state"] == "ready")
            return process.poll() is not None or "the fleet is ready" in prison.log

        eventually(is_settled, "the start has ended in one way or the other")
        assert prison.facts() == before
        assert prison.precious.parent.stat().st_uid == 0
        if process.poll() is None and what.startswith("the pidfile"):
            pidfile = prison.theirs / "fleet.pid"
            assert (pidfile.is_symlink(), pidfile.stat().st_uid) == (False, 0)


PLANTED_MODULE = """\
import importlib.machinery, importlib.util, os, sys
if os.geteuid() == 0:
    with open({proof!r}, "a") as proof:
        proof.write(f"{{__name__}} ran as root\\n")
_spec = importlib.machinery.PathFinder.find_spec(__name__, [each for each in sys.path if each not in {folders!r}])
sys.modules[__name__] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(sys.modules[__name__])
"""
"""Says so if root runs it, and is the real module otherwise."""

PLANTED_NAMES = sorted(
    {
        name
        for name in sys.stdlib_module_names
        if name not in sys.builtin_module_names and not name.startswith("_")
    }
    - {"importlib", "os", "sys", "this", "antigravity"}
    | {"pydantic", "setproctitle", "typer", "rich", "watchfiles", "tomli_w"}
)


@pytest.mark.parametrize("is_preloaded", [False, True])
def test_modules_planted_beside_the_application_never_run_as_root(*, is_preloaded: bool) -> None:
    with prison_of(is_preloaded=is_preloaded) as prison:
        proof, code = prison.folder / "proof", prison.theirs / "code"
        code.mkdir()
        text = PLANTED_MODULE.format(proof=str(proof), folders=[str(code), "", "."])
        for name in PLANTED_NAMES:
            (code / f"{name}.py").write_text(text)
        prison.change("unicornd.toml", 'target = "./', f'target = "{prison.folder}/')
        prison.change("unicornd.toml", 'chdir = "."', f'chdir = "{code}"')
        prison.start()
        for command in (("reload",), ("stacks", "1"), ("reopen",), ("config", "diff"), ("upgrade",)):
            prison.ctl(*command)
        assert prison.client.get("/v1/status")["state"] == "ready"
        assert not proof.exists(), proof.read_text()


# The listeners: what one does to a socket that all share, no other can undo. The arbiter stays, and can be told to stop.


@pytest.mark.parametrize("what", ["shut_listeners", "filter_listeners"])
def test_a_listener_that_a_worker_breaks_leaves_an_arbiter_that_answers_and_stops(what: str) -> None:
    with prison_of() as prison:
        prison.start()
        prison.attack_blindly(what)
        prison.assert_status()
        assert prison.is_alive(prison.bystander)
        assert prison.end() == DaemonExit.OK
        eventually(lambda: not prison.processes(), "every process of the fleet has ended")


# Molds.

MOLDS: dict[str, Callable[[Prison], dict[str, Any]]] = {
    **{
        f"it names {whose}": lambda prison, whose=whose: {"name": "answer", "pid": PIDS[whose](prison)}  # type: ignore[misc]
        for whose in ("init", "everybody", "a huge number", "a bystander", "the arbiter", "a sibling")
    },
    "it says that it is the worker": lambda _: {"name": "answer_as_itself"},
    "it names a grandchild": lambda _: {"name": "answer_with_a_grandchild"},
    "it answers with deep lists": lambda _: {"name": "answer_bytes", "text": "[", "times": 60_000},
    "it answers with nonsense": lambda _: {"name": "answer_bytes", "text": "\xff\x00"},
    "its worker is born thrice": lambda _: {"name": "answer_twice"},
    "it swaps two workers": lambda _: {"name": "swap_channels"},
    "it ends with orders outstanding": lambda _: {"name": "die_with_orders"},
    "it floods": lambda _: {"name": "flood_as_a_mold", "fields": READY},
    "it truncates its row": lambda _: {"name": "truncate_the_molds_row"},
    "it never answers": lambda _: {"name": "stay_silent"},
}


@pytest.mark.parametrize("what", MOLDS)
def test_a_hostile_mold_is_rolled_back_and_the_old_workers_serve(molded: Prison, what: str) -> None:
    before, log = set(molded.pids().values()), len(molded.log)
    file = molded.write("mold_attack", json.dumps(MOLDS[what](molded)))
    try:
        ended = molded.reload()
    finally:
        file.unlink()
    assert ended == "rolled_back", molded.log[-3000:]
    assert "raised" not in molded.log[log:], "the attack itself has failed"
    molded.assert_unharmed()
    assert set(molded.pids().values()) == before
    assert molded.reload() == "done"
    molded.assert_unharmed()
