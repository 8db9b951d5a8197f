"""`python -m tests.fuzz --seconds N`: give whatever reads bytes of others bytes that nobody would send.

Options: `--seconds N` (default 30) shared by all targets, `--target NAME` (again for more). Exits with 1 if a property does
not hold; Hypothesis has then shown the smallest input that it has found.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
import traceback
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, settings

from tests.fuzz.targets import TARGETS

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = 30.0
ROUND = 50
"""Inputs between two looks at the clock."""


def main() -> int:
    """Run the targets; return the exit code."""
    asked = _arguments()
    end = time.monotonic() + asked.seconds
    logging.disable(logging.CRITICAL)
    names = asked.target or list(TARGETS)
    code = 0
    for number, name in enumerate(names):
        started = time.monotonic()
        share = (end - started) / (len(names) - number)
        rounds, is_good = _run(TARGETS[name], until=started + share)
        took = time.monotonic() - started
        print(
            f"{name:<20}{'ok' if is_good else 'FAILED':<8}{rounds * ROUND:>9} inputs{took:>8.1f} s",
            flush=True,
        )
        code = code if is_good else 1
    return code


def _run(target: Callable[[], None], *, until: float) -> tuple[int, bool]:
    """Run one target until its time is over, once at least; return how many rounds, and whether all held."""
    run = settings(
        max_examples=ROUND,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )(target)
    rounds = 0
    while rounds == 0 or time.monotonic() < until:
        try:
            run()
        except Exception:  # noqa: BLE001 - whatever it is, it is shown and the other targets are run
            traceback.print_exc()
            return rounds, False
        rounds += 1
    return rounds, True


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--target", action="append", choices=list(TARGETS))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
