"""The fault table, each row once for `sync` and `threads`; `make soak` repeats it, for `gevent` and `asgi`, too."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.soak.rows import ROWS, variants
from tests.soak.site import Setup, site_in
from tests.support.traffic import PAUSE

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("row", "setup"), list(variants(("sync", "threads"))), ids=str)
def test_a_fault_costs_what_it_must_and_no_more(tmp_path: Path, row: str, setup: Setup) -> None:
    with site_in(tmp_path / "site", replace(setup, pause=PAUSE)) as site:
        ROWS[row](site)
