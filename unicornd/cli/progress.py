"""Waiting for an operation in front of a person: its steps as they happen, and its end.

Runs in the command's process. Ctrl-C detaches: it ends the waiting, never the operation. On a terminal there is a
line that moves; elsewhere plain lines, at most one every few seconds about what is waited for.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.status import Status
from rich.table import Table
from rich.text import Text

from unicornd.cli.exits import INTERRUPTED
from unicornd.cli.plain import printable
from unicornd.cli.session import data_console, note_console
from unicornd.control.client import ControlError
from unicornd.control.wording import condensed, duration
from unicornd.errors import CtlExit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from unicornd.cli.session import Session
    from unicornd.control.client import Client

LOOK = 1.0
"""Seconds that one question waits for news; what is waited for is shown anew after it."""

REMIND = 5.0
"""Seconds between two plain lines about what is waited for."""

RUNNING = "running"

CANNOT_BOOT = " cannot boot: "
"""Stands between a worker and the reason in the steps of an operation."""

Document = dict[str, Any]


class OutOfTimeError(ControlError):
    """The operation has not ended in the time that it was given; it goes on."""


class Ticker:
    """Shows the steps of one operation.

    Args:
        console: where; stderr.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._is_piped = not console.is_terminal  # a pipe gets whole lines, a terminal wrapped ones
        self._reminded_at = time.monotonic()
        self._reason = ""  # why the last worker could not boot: several in a row mostly have the same
        self._status = Status("", console=console, spinner="dots") if console.is_terminal else None

    @contextmanager
    def running(self) -> Iterator[None]:
        """The moving line is there meanwhile."""
        if self._status is None:
            yield
            return
        with self._status:
            yield

    def show(self, operation: Document) -> None:
        """Print new steps, and what is waited for."""
        operation = printable(operation)
        for step in operation["steps"]:
            self._print_step(self._shortened(step["text"]), at=duration(step["at"]))
        waiting = operation["waiting_for"]
        if self._status is not None:
            more = f" and {len(waiting) - 1} more" if len(waiting) > 1 else ""
            about = f", waiting for {waiting[0]}{more}" if waiting else ""
            text = f"{operation['title']}, {duration(operation['seconds'])}{about}"
            self._status.update(_on_one_line(text))
        elif waiting and time.monotonic() - self._reminded_at >= REMIND:
            self._reminded_at = time.monotonic()
            for line in waiting:
                self._console.print(Text(f"  … waiting for {line}"), soft_wrap=self._is_piped)

    def _print_step(self, text: str, *, at: str) -> None:
        line = Text.assemble(text, (f"  {at}", "dim"))
        if self._is_piped:
            self._console.print(Text.assemble("  - ", line), soft_wrap=True)
            return
        grid = Table.grid()
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(overflow="fold")
        grid.add_row("  - ", line)
        self._console.print(grid)

    def _shortened(self, text: str) -> str:
        """Return a step without the reason that the one before has had, too."""
        who, found, reason = text.partition(CANNOT_BOOT)
        if not found:
            return text
        is_known, self._reason = reason == self._reason, reason
        return f"{who}{CANNOT_BOOT}as before" if is_known else text


def _on_one_line(text: str) -> Table:
    """Return text that is cut where the terminal ends: beside its spinner, rich would wrap a plain one."""
    grid = Table.grid()
    grid.add_column(no_wrap=True, overflow="ellipsis")
    grid.add_row(Text(text))
    return grid


def follow(client: Client, operation: Document, *, timeout: float) -> Document:
    """Show an operation until it has ended, and return it as it is then, with all of its steps.

    Raises:
        OutOfTimeError: the time is up.
        ControlError: unicornd does not answer any more.
        KeyboardInterrupt: somebody has had enough.
    """
    deadline = time.monotonic() + timeout if timeout else float("inf")
    ticker = Ticker(note_console())
    steps = list(operation["steps"])
    with ticker.running():
        ticker.show(operation)
        while operation["state"] == RUNNING:
            if time.monotonic() >= deadline:
                raise OutOfTimeError(
                    f"not done after {duration(timeout)}: {operation['title']}",
                    code=CtlExit.UNREACHABLE,
                    detail="\n".join(f"waiting for {line}" for line in operation["waiting_for"]),
                    hint=f"{operation['id']} goes on; `unicornctl status` shows it",
                )
            wait = min(LOOK, max(deadline - time.monotonic(), 0.0))
            path = f"/v1/operations/{operation['id']}?wait={wait:.3f}&after={operation['step_count']}"
            operation = client.get(path)
            steps += operation["steps"]
            ticker.show(operation)
    return {**operation, "steps": steps}


def conclude(session: Session, operation: Document) -> int:
    """Say how an operation has ended, and return the exit code."""
    if session.is_json:
        session.print_json(operation)
    operation = printable(operation)
    if operation["state"] == "done":
        if not session.is_json:
            took = Text(f"  {duration(operation['seconds'])}", style="dim")
            console = data_console()
            text = Text.assemble(("done: ", "bold green"), operation["result"], took)
            console.print(text, soft_wrap=not console.is_terminal)
        return CtlExit.DONE
    console = note_console()
    label = operation["state"].replace("_", " ")
    result = operation["result"].removeprefix(f"{label}; ")
    console.print(Text.assemble((f"{label}: ", "bold red"), result), soft_wrap=not console.is_terminal)
    show_traceback(console, operation["detail"])
    if hint := operation.get("hint"):  # an older unicornd says none
        console.print(Text(f"  {hint}", style="dim"), soft_wrap=not console.is_terminal)
    return int(operation["exit_code"])


def show_traceback(console: Console, detail: str) -> None:
    """Show a traceback, or another list of lines: in colour where somebody looks."""
    if not detail:
        return
    detail = condensed(detail)
    if console.is_terminal and not console.no_color:
        from rich.syntax import Syntax  # noqa: PLC0415 - pygments takes as long as everything else together

        console.print(
            Syntax(detail.rstrip(), "pytb", background_color="default", word_wrap=True), soft_wrap=True
        )
        return
    for line in detail.rstrip().splitlines():
        console.print(Text(f"  {line}"), soft_wrap=True)


def detach(operation: Document) -> int:
    """Say that the operation goes on without us, and return the exit code of an interrupted program."""
    operation = printable(operation)
    note_console().print(
        Text(f"detached: {operation['id']} ({operation['title']}) goes on; `unicornctl status` shows it")
    )
    return INTERRUPTED


def interrupted() -> int:
    """Say that it is not known whether it has begun, and return the exit code of an interrupted program."""
    note_console().print(Text("interrupted while asking; `unicornctl status` shows whether it has begun"))
    return INTERRUPTED
