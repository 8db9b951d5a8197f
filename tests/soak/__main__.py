"""`python -m tests.soak`: the fault table again and again, with counts and durations.

Options: `--repeat N` (default 5), `--row NAME` and `--kind NAME` (again for more), `--recycle N` requests for the row "recycle".
Exits with 1 if a promise was broken; each breach is shown below the table.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.soak.measured import Measured, total
from tests.soak.rows import ROWS, recycle, variants
from tests.soak.site import site_in

if TYPE_CHECKING:
    from tests.soak.site import Setup

REPETITIONS = 5
RECYCLE_REQUESTS = 100_000
RECYCLE = "recycle"
KINDS = ("sync", "threads", "gevent", "asgi")
HEAD = f"{'fault':<24}{'kind, load':<28}{'ok':>6}{'answered':>10}{'lost':>6}{'refused':>9}{'longest':>9}{'took':>8}"


def main() -> int:
    """Run the table; return the exit code."""
    asked = _arguments()
    rows = {**ROWS, RECYCLE: partial(recycle, requests=asked.recycle)}
    breaches: list[str] = []
    print(HEAD)
    for row, setup in variants(asked.kind or KINDS):
        if (asked.row and row not in asked.row) or (asked.kind and setup.kind not in asked.kind):
            continue
        times = 1 if row == RECYCLE else asked.repeat
        found: list[Measured] = []
        for _ in range(times):
            try:
                found.append(_once(rows[row], setup))
            except Exception as error:  # noqa: BLE001 - a breach of any sort is a line of the report
                breaches.append(f"{row} ({setup}): {type(error).__name__}: {error}")
        _show(row, setup, found=found, times=times)
    print(*breaches, sep="\n")
    return 1 if breaches else 0


def _once(run: object, setup: Setup) -> Measured:
    assert callable(run)
    with tempfile.TemporaryDirectory() as folder, site_in(Path(folder) / "site", setup) as site:
        result = run(site)
        assert isinstance(result, Measured)
        return result


def _show(row: str, setup: Setup, *, found: list[Measured], times: int) -> None:
    sums = total(found)
    print(
        f"{row:<24}{setup!s:<28}{f'{len(found)}/{times}':>6}{sums.answered:>10}{sums.lost:>6}{sums.refused:>9}"
        f"{sums.longest:>8.3f}s{sums.seconds:>7.2f}s",
        flush=True,
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--repeat", type=int, default=REPETITIONS)
    parser.add_argument("--recycle", type=int, default=RECYCLE_REQUESTS)
    parser.add_argument("--kind", action="append", choices=KINDS)
    parser.add_argument("--row", action="append", choices=list(ROWS))
    return parser.parse_args()


if __name__ == "__main__":
    started = time.monotonic()
    code = main()
    print(f"{time.monotonic() - started:.0f} s")
    sys.exit(code)
