"""The fault table, each row for `sync` with new connections and for `threads` with kept ones.

`sync` closes each connection, so clients of either sort do the same there. `make soak` repeats all, for `gevent` and
`asgi`, too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.soak.rows import ROWS, WITHOUT_LOAD, variants
from tests.soak.site import Setup, site_in
from tests.support.traffic import PAUSE

if TYPE_CHECKING:
    from pathlib import Path


CHOSEN = [
    (row, setup)
    for row, setup in variants(("sync", "threads"))
    if row in WITHOUT_LOAD or setup.is_keepalive == (setup.kind != "sync")
]


@pytest.mark.parametrize(("row", "setup"), CHOSEN, ids=str)
def test_a_fault_costs_what_it_must_and_no_more(tmp_path: Path, row: str, setup: Setup) -> None:
    with site_in(tmp_path / "site", replace(setup, pause=PAUSE)) as site:
        ROWS[row](site)
