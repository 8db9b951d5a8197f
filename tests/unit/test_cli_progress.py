"""The steps of an operation, as a terminal and a pipe get them."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from unicornd.cli.progress import Ticker

REASON = "importing app raised ModuleNotFoundError: No module named 'stripe_payments' at /srv/shop/app.py:4"


def operation(*texts: str) -> dict[str, object]:
    steps = [{"text": text, "at": 0.067} for text in texts]
    return {"steps": steps, "waiting_for": [], "title": "reload", "seconds": 1.0}


def shown(*texts: str, is_terminal: bool, width: int = 60) -> list[str]:
    stream = io.StringIO()
    console = Console(
        file=stream, force_terminal=is_terminal, width=width, color_system=None, highlight=False, markup=False
    )
    ticker = Ticker(console)
    for text in texts:
        ticker.show(operation(text))
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_a_pipe_gets_one_line_a_step_however_long() -> None:
    assert shown(f"worker 1 (pid 7) cannot boot: {REASON}", is_terminal=False) == [
        f"  - worker 1 (pid 7) cannot boot: {REASON}  67ms"
    ]


def test_a_terminal_gets_long_steps_wrapped_beside_their_dash() -> None:
    lines = shown(f"worker 1 (pid 7) cannot boot: {REASON}", is_terminal=True)
    assert lines[0].startswith("  - worker 1 (pid 7) cannot boot: importing app raised")
    assert all(line.startswith("    ") for line in lines[1:])
    assert max(map(len, lines)) <= 60


@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_same_reason_is_told_once(*, is_terminal: bool) -> None:
    lines = shown(
        "worker 1 (pid 7) cannot boot: out of luck",
        "worker 1 (pid 8) cannot boot: out of luck",
        "worker 1 (pid 9) cannot boot: out of memory",
        "worker 2 is ready",
        is_terminal=is_terminal,
    )
    assert lines == [
        "  - worker 1 (pid 7) cannot boot: out of luck  67ms",
        "  - worker 1 (pid 8) cannot boot: as before  67ms",
        "  - worker 1 (pid 9) cannot boot: out of memory  67ms",
        "  - worker 2 is ready  67ms",
    ]


def test_what_is_waited_for_is_one_line_of_a_terminal_however_long() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=60, color_system=None, legacy_windows=False)
    ticker = Ticker(console)
    path = "/a/path/that/goes/on" * 9
    with ticker.running():
        ticker.show({**operation(), "waiting_for": [f"worker 2 (pid 7) to drain, 2s: 9s GET {path}"]})
    assert "reload, 1.0s, waiting for worker 2 (pid 7)" in stream.getvalue()
    assert "…" in stream.getvalue()
    assert stream.getvalue().count("\n") <= 1
