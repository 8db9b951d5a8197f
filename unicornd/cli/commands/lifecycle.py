"""`unicornctl start|stop|restart`: have the fleet run, and not run, and tell the truth about it.

Runs in the command's process. `start` returns when the fleet serves, `stop` when its arbiter has ended.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import tempfile
import textwrap
import time
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from unicornd.cli.commands.change import show_accepted, show_plan
from unicornd.cli.exits import INTERRUPTED, print_error
from unicornd.cli.instances import CONFIG_NAME, Choice
from unicornd.cli.plain import printable
from unicornd.cli.progress import OutOfTimeError, conclude, detach, follow
from unicornd.cli.render import STATE_STYLES
from unicornd.cli.session import EPILOG, DryRun, Session, Timeout, Wait, data_console, session_of
from unicornd.config.instance import as_said
from unicornd.control.client import Client, ControlError
from unicornd.control.wording import duration, plural
from unicornd.errors import CtlExit, DaemonExit, UnicorndError
from unicornd.escaping import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

app = typer.Typer()

START_CODES: Mapping[int, CtlExit] = {
    DaemonExit.OK: CtlExit.DONE,
    DaemonExit.USAGE: CtlExit.USAGE,
    DaemonExit.CONFIG: CtlExit.CONFIG,
}
"""What the daemon's exit code means for unicornctl; the rest (no boot, no application, …) is FAILED."""

PATIENCE = 1.0
"""Seconds after which a person at a terminal is told what is waited for."""

LOOK = 0.05
"""Seconds between two looks whether unicornd has ended, or whether its arbiter is there."""

DAEMON_SAYS = "unicornd: "
"""Begins an error of unicornd's."""

NO_TIME = 1e-9
"""A timeout that is over at once; 0 is none."""

GOES_ON = "the start goes on; `unicornctl status` shows it, `unicornctl stop` ends it"

Now = Annotated[bool, typer.Option("--now", help="Do not wait for requests in flight.")]
WaitForReady = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Wait until it serves, not only until its arbiter is there.")
]


@app.command(epilog=EPILOG, short_help="Start the fleet; returns when it serves.")
def start(
    context: typer.Context,
    *,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Become the daemon; Ctrl-C stops it.")
    ] = False,
    wait: WaitForReady = True,
    timeout: Timeout = 0,
    dry_run: DryRun = False,
) -> int:
    """Start the fleet and return when it serves, or say why it does not."""
    session = session_of(context)
    file = _config_file(session.choice)
    if (status := _running(file, timeout=timeout if wait else NO_TIME)) is not None:
        return _tell_running(session, status, is_wrong=foreground)
    if dry_run:
        return _checked(session, file) or _show_restart(session, file, arbiter=None)
    if foreground:
        command = _daemon(file)
        os.execv(command[0], command)  # noqa: S606 - our own interpreter, no shell wanted
    return _start(session, file, wait=wait, timeout=timeout)


@app.command(epilog=EPILOG, short_help="Stop the fleet; what has been sent is answered.")
def stop(
    context: typer.Context,
    *,
    now: Now = False,
    wait: Wait = True,
    timeout: Timeout = 0,
    dry_run: DryRun = False,
) -> int:
    """Stop the fleet: what has been sent is answered, then everything ends."""
    session = session_of(context)
    if dry_run:
        return show_plan(session, session.client().post("/v1/stop?dry_run=1", _mode(is_quick=now)))
    client = session.client_to_change("stop")
    if not wait:
        return show_accepted(session, client.post("/v1/stop", _mode(is_quick=now)))
    try:
        return conclude(session, _stop(client, is_quick=now, timeout=timeout))
    except _DetachedError as detached:
        return detach(detached.operation)


@app.command(epilog=EPILOG, short_help="Stop it and start it anew (with a gap).")
def restart(
    context: typer.Context,
    *,
    now: Now = False,
    wait: WaitForReady = True,
    timeout: Timeout = 0,
    dry_run: DryRun = False,
) -> int:
    """Stop the fleet and start it anew; that it can be started is checked before anything is stopped.

    Between the two nobody serves: `unicornctl reload` takes new code and configuration without a gap.
    """
    session = session_of(context)
    began = time.monotonic()
    try:
        client = session.client() if dry_run else session.client_to_change("restart")
        status = client.get("/v1/status")
    except ControlError as error:
        if error.code is not CtlExit.NOT_RUNNING:
            raise
        file = _config_file(session.choice)
        if dry_run:
            return _checked(session, file) or _show_restart(session, file, arbiter=None)
        return _start(session, file, wait=wait, timeout=timeout)
    file = session.choice.config_file() or _known_file(status)
    if code := _checked(session, file):
        sys.stderr.write("unicornctl: nothing was stopped\n")
        return code
    if dry_run:
        return _show_restart(session, file, arbiter=status["arbiter"]["pid"])
    try:
        _stop(client, is_quick=now, timeout=timeout)
    except _DetachedError as detached:
        code = detach(detached.operation)
        sys.stderr.write("nothing has been started: `unicornctl start` does, once it has ended\n")
        return code
    return _start(session, file, wait=wait, timeout=timeout and _left(timeout, began))


def _show_restart(session: Session, file: Path, *, arbiter: int | None) -> int:
    actions = [f"stop pid {arbiter}"] if arbiter is not None else []
    title = "restart" if arbiter is not None else "start: it is not running"
    return show_plan(session, {"schema": 1, "title": title, "actions": [*actions, f"start with {file}"]})


# Start.


def _config_file(choice: Choice) -> Path:
    file = choice.config_file()
    if file is not None:
        return as_said(file)
    raise ControlError(
        f"there is no {CONFIG_NAME} here",
        code=CtlExit.CONFIG,
        hint="`unicornctl config init` writes one, `config import` one from gunicorn's; -c FILE names another",
    )


def _known_file(status: Mapping[str, Any]) -> Path:
    if status["config_file"]:
        return _config_file(Choice(config=status["config_file"]))
    raise ControlError(
        f"{status['instance']} was started without a configuration file: unicornctl cannot know how to start it again",
        code=CtlExit.FAILED,
        hint="stop it, and start it as it was started",
    )


def _running(file: Path, *, timeout: float) -> dict[str, Any] | None:
    """Return the status of the fleet if it runs already, once it serves or the time is up; 0: no limit."""
    deadline = time.monotonic() + timeout if timeout else float("inf")
    try:
        client = Session(choice=Choice(config=str(file)), is_json=False).client()
        status = client.get("/v1/status")
        while status["state"] == "starting" and time.monotonic() < deadline:
            time.sleep(LOOK)
            status = client.get("/v1/status")
    except ControlError as error:
        if error.code is CtlExit.NOT_RUNNING:
            return None
        raise
    return status


def _tell_running(session: Session, status: dict[str, Any], *, is_wrong: bool) -> int:
    """Say that it runs already, which is what `start` wants; `is_wrong` if this process was to become the daemon.

    Raises:
        ControlError: it was.
    """
    message = f"{status['instance']} is already running (pid {status['arbiter']['pid']}, {status['state']})"
    if is_wrong:
        raise ControlError(
            message,
            code=CtlExit.FAILED,
            hint="`unicornctl reload` takes new code and configuration, `unicornctl restart` stops and starts it",
        )
    if session.is_json:
        session.print_json(status)
    else:
        data_console().print(Text(message), soft_wrap=True)
    return CtlExit.DONE


def _daemon(file: Path) -> list[str]:
    # -P: the working directory may be anybody's, and Python would look for unicornd there first.
    return [sys.executable, "-Pm", "unicornd", "-c", str(file)]


def _run_daemon(
    file: Path,
    flag: str,
    *,
    timeout: float = 0,
    is_enough: Callable[[], bool] = lambda: False,
    told: IO[str] | None = None,
) -> int | None:
    """Run unicornd until it has daemonized or checked; what it says goes to our stderr, or to the file `told`.

    Returns:
        Its exit code; None if it goes on, since the time is up or `is_enough` has said so.

    Raises:
        ControlError: it cannot be executed.
    """
    # Its streams are ours, not pipes: a daemon may keep them (process.inherit_stdio).
    stream = told or sys.stderr
    try:
        running = subprocess.Popen(  # noqa: S603 - our own
            [*_daemon(file), flag], stdin=subprocess.DEVNULL, stdout=stream, stderr=stream
        )
    except OSError as error:
        what = f"{sys.executable} cannot be executed: {error.strerror}"
        raise ControlError(what, code=CtlExit.FAILED) from error
    began, has_told = time.monotonic(), not sys.stderr.isatty()
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return running.wait(LOOK)
        took = time.monotonic() - began
        if (timeout and took >= timeout) or is_enough():
            _let_go(running, file)
            return None
        if took >= PATIENCE and not has_told:
            has_told = True
            sys.stderr.write(f"loading what {file.name} says …\n")


def _let_go(starter: subprocess.Popen[bytes], file: Path) -> None:
    """End the process that waits for the daemon: it has our streams, and a script reads these to their end.

    The daemon has left it and goes on. Without an arbiter that answers, it may not have left yet.
    """
    if _is_there(file):
        starter.terminate()
        starter.wait()


def _checked(session: Session, file: Path) -> int:
    """Have configuration and application looked at, and return the exit code: 0 if both are right."""
    with _overheard(session, file) as told:
        try:
            checked = _run_daemon(file, "--check-config", told=told)
        except KeyboardInterrupt:
            return INTERRUPTED
        code = CtlExit.FAILED if checked is None else START_CODES.get(checked, CtlExit.FAILED)
        return (
            code
            if code is CtlExit.DONE
            else _failed(session, code, message="it cannot be started", told=told)
        )


@contextlib.contextmanager
def _overheard(session: Session, file: Path) -> Iterator[IO[str] | None]:
    """For a program, a file that unicornd writes to and that is passed on to stderr afterwards; else None.

    None, too, if the daemon keeps its streams for ever: they have to be ours.
    """
    if not session.is_json or _keeps_streams(file):
        yield None
        return
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as told:
        try:
            yield told
        finally:
            told.seek(0)
            sys.stderr.write(told.read())


def _keeps_streams(file: Path) -> bool:
    from unicornd.config.layers import load  # noqa: PLC0415 - for programs only
    from unicornd.config.loaded import Sources  # noqa: PLC0415 - likewise

    try:
        return load(Sources(config_file=file, environ=dict(os.environ))).settings.process.inherit_stdio
    except UnicorndError:  # the daemon will find the same
        return False


def _failed(session: Session, code: CtlExit, *, message: str, told: IO[str] | None) -> CtlExit:
    """Return the exit code; for a program, with a document of what unicornd has said, which stands on stderr, too."""
    if session.is_json:
        found = _found_in(told) if told is not None else ""
        reason, _, detail = found.partition("\n")
        hint = "" if found else "standard error says why"
        print_error(ControlError(reason or message, code=code, detail=textwrap.dedent(detail), hint=hint))
    return code


def _found_in(told: IO[str]) -> str:
    """Return what unicornd has said, without its name and without notes before the error."""
    told.seek(0)
    said = told.read().strip()
    return said[max(said.rfind(f"\n{DAEMON_SAYS}"), 0) :].strip().removeprefix(DAEMON_SAYS)


def _start(session: Session, file: Path, *, wait: bool, timeout: float) -> int:
    began = time.monotonic()
    with _overheard(session, file) as told:
        try:
            is_enough = (lambda: False) if wait else (lambda: _is_there(file))
            daemon = _run_daemon(file, "--daemon", timeout=timeout, is_enough=is_enough, told=told)
        except KeyboardInterrupt:
            sys.stderr.write(f"interrupted: {GOES_ON}\n")
            return INTERRUPTED
        if daemon is None and wait:
            raise OutOfTimeError(
                "the time is up, and it does not serve yet", code=CtlExit.UNREACHABLE, hint=GOES_ON
            )
        if daemon == DaemonExit.FAILED and (status := _running(file, timeout=timeout if wait else NO_TIME)):
            return _tell_running(session, status, is_wrong=False)  # somebody else has started it meanwhile
        if daemon:
            code = START_CODES.get(daemon, CtlExit.FAILED)
            return _failed(session, code, message="it has not started", told=told)
    return _tell_started(session, file, took=time.monotonic() - began)


def _tell_started(session: Session, file: Path, *, took: float) -> int:
    try:
        client = Session(choice=Choice(config=str(file)), is_json=False).client()
        status, scheme = client.get("/v1/status"), _scheme(client.get("/v1/config"))
    except ControlError as error:
        sys.stderr.write(f"started; its control socket cannot be asked: {one_line(error.message)}\n")
        if session.is_json:
            session.print_json({"schema": 1, "state": "started", "error": error.message})
        return CtlExit.DONE
    if session.is_json:
        session.print_json(status)
    else:
        _show_started(printable(status), scheme=scheme, took=took)
    return CtlExit.DONE


def _is_there(file: Path) -> bool:
    """Whether the arbiter answers: what is wrong with configuration, addresses or pidfile has been told by then."""
    try:
        Session(choice=Choice(config=str(file)), is_json=False).client().get("/v1/status")
    except ControlError:
        return False
    return True


def _show_started(status: Mapping[str, Any], *, scheme: str, took: float) -> None:
    console = data_console()
    ready = sum(worker["phase"] == "ready" for worker in status["workers"])
    console.print(
        Text.assemble(
            (status["instance"], "bold"), " is ", (status["state"], STATE_STYLES.get(status["state"], "bold")),
            f": {plural(ready, 'worker')}, pid {status['arbiter']['pid']}, {duration(took)}",
        )
    )  # fmt: skip
    for listener in status["listeners"]:
        console.print(Text(f"  {_link(listener['address'], scheme)}"), soft_wrap=True)
    for name, about in (
        ("status", "what it does now"),
        ("scale 4", "more workers"),
        ("reload", "new code, new configuration"),
        ("stop", "end it"),
    ):
        console.print(Text.assemble(f"  unicornctl {name:<10}", (about, "dim")))


def _link(address: str, scheme: str) -> str:
    return address if address.startswith("unix:") else f"{scheme}://{address}"


def _scheme(config: Mapping[str, Any]) -> str:
    """Return what is spoken on the ports of a fleet."""
    values = {row["key"]: row["value"] for row in config["values"]}
    if values.get("server.protocol", "http") != "http":
        return str(values["server.protocol"])
    return "https" if values.get("tls.certfile") or values.get("hooks.ssl_context") else "http"


# Stop.


def _stop(client: Client, *, is_quick: bool, timeout: float) -> dict[str, Any]:
    """Stop the fleet, and return the operation when the arbiter has ended.

    Raises:
        OutOfTimeError: it takes too long, and goes on.
        _DetachedError: Ctrl-C; it goes on.
    """
    began = time.monotonic()
    with _watched(int(client.get("/v1/status")["arbiter"]["pid"])) as watch:
        operation = client.post("/v1/stop", _mode(is_quick=is_quick))
        try:
            operation = _follow_stop(client, operation, timeout=timeout)
            _await_end(watch, timeout=timeout and _left(timeout, began))
        except KeyboardInterrupt:
            raise _DetachedError(operation) from None
    ended = {
        "state": "done", "result": "all workers have left, the arbiter has ended", "steps": [], "waiting_for": [],
        "seconds": round(time.monotonic() - began, 3), "exit_code": CtlExit.DONE,
    }  # fmt: skip
    return {**operation, **ended}


def _left(timeout: float, began: float) -> float:
    """Return the seconds that are left; never 0, which would be no limit."""
    return max(timeout - (time.monotonic() - began), 0.001)


class _DetachedError(Exception):
    """Somebody does not want to wait any longer; the operation goes on."""

    def __init__(self, operation: dict[str, Any]) -> None:
        super().__init__(operation["id"])
        self.operation = operation


def _follow_stop(client: Client, operation: dict[str, Any], *, timeout: float) -> dict[str, Any]:
    """Show the stop until the arbiter hangs up, which is how it ends."""
    try:
        return follow(client, operation, timeout=timeout)
    except OutOfTimeError:
        raise
    except ControlError:
        return operation


@contextlib.contextmanager
def _watched(pid: int) -> Iterator[int | None]:
    """A descriptor that becomes readable when the process has ended; None if the kernel does not give one."""
    try:
        watch = os.pidfd_open(pid)
    except OSError:
        yield None
        return
    try:
        yield watch
    finally:
        os.close(watch)


def _await_end(watch: int | None, *, timeout: float) -> None:
    if watch is None:
        return
    ended, _, _ = select.select([watch], [], [], timeout or None)
    if not ended:
        raise ControlError(
            "the workers have left, but the arbiter has not ended",
            code=CtlExit.UNREACHABLE,
            hint="its log may say why",
        )


def _mode(*, is_quick: bool) -> dict[str, str]:
    return {"mode": "quick" if is_quick else "graceful"}
