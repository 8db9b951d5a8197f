"""A WSGI application that attacks the fleet that runs it: with all that a worker's own process can reach.

It is copied into the folder of a fleet as `site_app.py`; `tests.support.hostile` starts that. `GET /attack/NAME?{json}`
carries an attack out, with the keyword arguments of the JSON in the query, and answers with what the attack has
returned or with the error that the kernel gave. In a mold, the file `mold_attack` names what happens at import.
"""

from __future__ import annotations

import array
import ctypes
import json
import os
import pathlib
import resource
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

FOLDER = pathlib.Path(__file__).parent
FLOOD_SECONDS = 8.0
SO_ATTACH_FILTER = 26
SO_LOCK_FILTER = 44
"""asm-generic/socket.h"""
PTRACE_ATTACH = 16
"""linux/ptrace.h"""
HELD: list[object] = []
"""What an attack keeps open."""

Attack = Callable[..., object]
ATTACKS: dict[str, Attack] = {}
MOLD_ATTACKS: dict[str, Attack] = {}


def attack(function: Attack) -> Attack:
    ATTACKS[function.__name__] = function
    return function


def mold_attack(function: Attack) -> Attack:
    MOLD_ATTACKS[function.__name__] = function
    return function


def seat() -> Any:
    """Return what the arbiter has given this process: it lies on the main thread's stack."""
    frame: Any = sys._current_frames()[threading.main_thread().ident or 0]  # noqa: SLF001 - the documented name
    while not hasattr(frame.f_locals.get("seat"), "channel"):  # this function has the name, too
        frame = frame.f_back
    return frame.f_locals["seat"]


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
    answer: dict[str, object] = {"pid": os.getpid()}
    path = environ["PATH_INFO"]
    if path == "/slow":
        time.sleep(0.02)  # long enough for a second worker to be needed
    if path.startswith("/attack/"):
        arguments = json.loads(unquote(environ["QUERY_STRING"]) or "{}")
        try:
            answer["did"] = ATTACKS[path.removeprefix("/attack/")](**arguments)
        except (OSError, ValueError) as error:
            answer["error"] = f"{type(error).__name__}: {error}"
    body = json.dumps(answer, default=repr).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


# What is reported.


@attack
def say(fields: list[str]) -> None:
    """Send one report."""
    seat().channel.send(_datagram(fields))


@attack
def claim(pid: Any) -> list[str]:
    """Say in every way that this process is another one; return what the kernel said."""
    return _claim(seat().channel, pid)


@attack
def say_bytes(text: str, times: int = 1) -> int:
    """Send a report that is `text` so many times (latin-1); return its size."""
    return int(seat().channel.send((text * times).encode("latin-1")))


@attack
def flood(fields: list[str]) -> int:
    """Report without pause, for as long as it is read; return how often."""
    return _flood(_datagram(fields))


@attack
def flood_from_a_child(fields: list[str]) -> int:
    """Have a forked child report without pause, which the arbiter knows nothing of."""
    datagram = _datagram(fields)
    if (pid := os.fork()) == 0:
        try:
            _flood(datagram)
        finally:
            os._exit(0)
    return pid


@attack
def send_descriptors(times: int) -> int:
    """Send the most descriptors that fit a message, again and again; return how many messages were taken."""
    fd = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    rights = array.array("i", [fd] * 253)
    sent = 0
    for _ in range(times):
        try:
            seat().channel.sendmsg([b"{}"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        except OSError:
            break
        sent += 1
    os.close(fd)
    return sent


@attack
def close_channel() -> None:
    seat().channel.close()


def _datagram(fields: list[str]) -> bytes:
    return "\0".join(fields).encode()


def _claim(channel: socket.socket, pid: Any) -> list[str]:
    """Name a pid in the text of a report, and in the credentials that the kernel sends along (unix(7))."""
    said = []
    for text in (json.dumps({"report": "born", "pid": pid}).encode(), _datagram(["born", json.dumps(pid)])):
        try:
            channel.send(text)
        except OSError as error:
            said.append(str(error))
    try:
        credentials = struct.pack("iII", pid, os.getuid(), os.getgid())
        channel.sendmsg([b"born"], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, credentials)])
    except (OSError, struct.error) as error:
        said.append(str(error))
    return said


def _channel_among(descriptors: list[int]) -> socket.socket:
    """Return the one that is a channel, of what comes with an order."""
    for fd in descriptors:
        try:
            sock = socket.socket(fileno=fd)
        except OSError:
            continue
        if sock.type == socket.SOCK_SEQPACKET:
            return sock
        sock.detach()
    raise ValueError("no channel")


def _flood(datagram: bytes) -> int:
    sent, until, channel = 0, time.monotonic() + FLOOD_SECONDS, seat().channel
    while time.monotonic() < until:
        try:
            channel.send(datagram)
        except BlockingIOError:
            select.select([], [channel], [], 0.1)
        except OSError:  # the arbiter reads no more
            break
        sent += 1
    return sent


# Shared memory.


@attack
def resize_row(size: int) -> None:
    os.ftruncate(seat().row.fd, size)


@attack
def fill_row(byte: int) -> None:
    view = seat().row._bytes  # noqa: SLF001 - an attacker's way
    view[:] = bytes([byte]) * len(view)


@attack
def set_times(text: str) -> None:
    """Write a number into every word of the row: `nan`, `inf`, `-1`, a time in the future."""
    times = seat().row._times  # noqa: SLF001 - an attacker's way
    for word in range(len(times)):
        times[word] = float(text)


@attack
def write_behind_rows(size: int) -> int:
    """Write behind the end of every memfd that this process has."""
    written = 0
    for fd in _memfds():
        try:
            written += os.pwrite(fd, b"\x1b[31mX\n" * (size // 7), os.fstat(fd).st_size)
        except OSError:
            continue
    return written


@attack
def resize_memfds(size: int) -> list[str]:
    """Truncate or extend every memfd; return what the kernel said."""
    said = []
    for fd in _memfds():
        try:
            os.ftruncate(fd, size)
            said.append("done")
        except OSError as error:
            said.append(str(error))
    return said


@attack
def move_offsets(offset: int) -> list[int]:
    """Move the file offsets, which are those of the arbiter, too (open(2))."""
    return [os.lseek(fd, offset, os.SEEK_SET) for fd in _memfds()]


def _memfds() -> list[int]:
    found = []
    for link in pathlib.Path("/proc/self/fd").iterdir():
        try:
            if str(link.readlink()).startswith("/memfd:"):
                found.append(int(link.name))
        except OSError:
            continue
    return found


# What siblings share.


@attack
def close_lifeline() -> None:
    os.close(seat().lifeline)


@attack
def hand_over_garbage(head: str, fill: int = 0, times: int = 1) -> int:
    """Put a message without a connection into the pair: bytes in hex, then so many `[`; return how many fitted."""
    return sum(_give([bytes.fromhex(head), b"[" * fill], []) for _ in range(times))


@attack
def hand_over_things() -> int:
    """Put in, as if they were connections: a directory, a pipe, an epoll, a listener, sockets of other families."""
    read_end, write_end = os.pipe()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    things: list[int] = [
        os.open("/", os.O_RDONLY | os.O_DIRECTORY),
        read_end,
        write_end,
        select.epoll().fileno(),
        listener.fileno(),
        one.fileno(),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).fileno(),
    ]
    address = str(seat().listeners[0].address)
    facts = json.dumps([address, "127.0.0.1", "1"]).encode()
    message = len(facts).to_bytes(2, "big") + facts + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    HELD.append((listener, one, other))
    return sum(_give([message], [fd]) for fd in things) + _give([message], things * 30)


@attack
def fill_handover() -> int:
    """Put in connections that nobody can serve until no more fit."""
    times = 0
    while _give([b"\x00"], [seat().handover.taking.fileno()]) and times < 5000:
        times += 1
    return times


@attack
def shut_handover() -> None:
    for end in (seat().handover.giving, seat().handover.taking):
        end.shutdown(socket.SHUT_RDWR)


@attack
def drain_handover() -> int:
    """Take out, and throw away, whatever others have handed over."""
    return len([each.sock.close() for each in seat().handover.take()])


@attack
def make_listeners_wait() -> None:
    """O_NONBLOCK is a flag of the open file, which all workers share."""
    for listener in seat().listeners:
        listener.sock.setblocking(True)


@attack
def accept_and_hold(count: int) -> int:
    listener = seat().listeners[0].sock
    for _ in range(count):
        try:
            HELD.append(listener.accept())
        except BlockingIOError:
            break
    return len(HELD)


@attack
def shut_listeners() -> None:
    for listener in seat().listeners:
        listener.sock.shutdown(socket.SHUT_RDWR)


@attack
def filter_listeners() -> str:
    """Have the kernel drop whatever comes to the listeners, and nobody take that back (socket(7))."""
    instruction = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF_RET: keep 0 bytes
    program = struct.pack("HP", 1, ctypes.addressof(instruction))
    for listener in seat().listeners:
        listener.sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
        listener.sock.setsockopt(socket.SOL_SOCKET, SO_LOCK_FILTER, 1)
    return "locked"


@attack
def give_log_flags() -> list[int]:
    """Take O_APPEND from, and set O_NONBLOCK at, the open files of the logs, which the arbiter shares."""
    import fcntl  # noqa: PLC0415 - only here

    for fd in (1, 2):
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_NONBLOCK)
    return [1, 2]


# Others' processes.


@attack
def send_signal(pid: int, number: int) -> None:
    os.kill(pid, number)


@attack
def signal_sibling(pids: list[int], number: int) -> int:
    """Send a signal to one of these processes that is not this one; return which."""
    victim = next(pid for pid in pids if pid != os.getpid())
    os.kill(victim, number)
    return victim


@attack
def signal_everybody() -> None:
    """Kill whatever this user may kill, but for the caller (kill(2))."""
    os.kill(-1, signal.SIGKILL)


@attack
def read_file(path: str) -> int:
    """Return how many bytes it has."""
    return len(pathlib.Path(path).read_bytes())


@attack
def list_folder(path: str) -> int:
    return len(list(pathlib.Path(path).iterdir()))


@attack
def open_to_write(path: str) -> None:
    with pathlib.Path(path).open("ab"):
        pass


@attack
def trace(pid: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(PTRACE_ATTACH, pid, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")


@attack
def limit(pid: int) -> None:
    """Allow a process no files any more."""
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (0, 0))


@attack
def connect(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
    return True


@attack
def become_root() -> str:
    for change in (os.setuid, os.setgid, os.seteuid, os.setegid):
        try:
            change(0)
        except PermissionError:
            continue
        return change.__name__
    raise PermissionError("none of the calls")


# Files.


@attack
def plant(path: str, kind: str, target: str = "") -> None:
    """Put something in the place of a file."""
    file = pathlib.Path(path)
    file.unlink(missing_ok=True)
    match kind:
        case "symlink":
            file.symlink_to(target)
        case "hard link":
            file.hardlink_to(target)
        case "fifo":
            os.mkfifo(file)
        case "folder":
            file.mkdir()
        case _:
            raise ValueError(kind)


@attack
def plant_many(folder: str, names: list[str], target: str) -> None:
    """Plant links with all these names (`{}` is each number of a process to come)."""
    numbers = range(1, 3000)
    for name in names:
        for file in [name.format(number) for number in numbers] if "{}" in name else [name]:
            link = pathlib.Path(folder, file)
            link.unlink(missing_ok=True)
            link.symlink_to(target)


@attack
def die() -> None:
    os._exit(1)


def _give(parts: list[bytes], descriptors: list[int]) -> bool:
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    try:
        seat().handover.giving.sendmsg(parts, rights)
    except OSError:
        return False
    return True


# A mold: it takes the orders itself, and never returns into unicornd's code.


def _orders() -> Any:
    """Say that the application is loaded, and yield for each order the channel of the worker that is wanted."""
    mold = seat()
    mold.channel.setblocking(True)
    mold.channel.send(_datagram(["ready", ""]))
    while True:
        data, descriptors, _, _ = socket.recv_fds(mold.channel, 65536, 250)
        if not data:
            os._exit(0)
        yield _channel_among(descriptors)


@mold_attack
def answer(pid: object) -> None:
    """Say that the wanted worker has this process id."""
    for channel in _orders():
        _claim(channel, pid)
        HELD.append(channel)


@mold_attack
def answer_as_itself() -> None:
    """Say that the mold is the wanted worker."""
    for channel in _orders():
        channel.send(b"born")
        HELD.append(channel)


@mold_attack
def answer_bytes(text: str, times: int = 1) -> None:
    for channel in _orders():
        channel.send((text * times).encode("latin-1"))
        HELD.append(channel)


@mold_attack
def answer_with_a_grandchild() -> None:
    """The process exists and answers itself, but is the mold's child, so the arbiter could never reap it."""
    for channel in _orders():
        if os.fork() == 0:
            channel.send(b"born")
            signal.pause()
        HELD.append(channel)


@mold_attack
def answer_twice() -> None:
    """A real worker's process, which says more than once that it is born."""
    for channel in _orders():
        if os.fork() == 0:
            if os.fork() == 0:
                for _ in range(3):
                    channel.send(b"born")
                channel.send(_datagram(["boot_failed", "app", "no", ""]))
            os._exit(1)
        HELD.append(channel)


@mold_attack
def swap_channels() -> None:
    """Two workers that are born each say so on the other's channel; then they end."""
    waiting: list[socket.socket] = []
    for channel in _orders():
        waiting.append(channel)
        if len(waiting) == 2:
            for other in reversed(waiting):
                if os.fork() == 0:
                    if os.fork() == 0:
                        other.send(b"born")
                    os._exit(1)
            waiting.clear()


@mold_attack
def stay_silent() -> None:
    HELD.extend(_orders())


@mold_attack
def die_with_orders() -> None:
    for _ in _orders():
        os._exit(1)


@mold_attack
def flood_as_a_mold(fields: list[str]) -> None:
    for _ in _orders():
        _flood(_datagram(fields))


@mold_attack
def truncate_the_molds_row() -> None:
    resize_memfds(0)
    for channel in _orders():
        HELD.append(channel)
        os._exit(1)


if (FOLDER / "mold_attack").exists():
    wanted = json.loads((FOLDER / "mold_attack").read_text())
    MOLD_ATTACKS[wanted.pop("name")](**wanted)
