"""The fault table, each row once for `sync` and `threads`; `make soak` repeats it, for `gevent` and `asgi`, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.soak.rows import ROWS, variants
from tests.soak.site import Setup, site_in

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("row", "setup"), list(variants(("sync", "threads"))), ids=str)
def test_a_fault_costs_what_it_must_and_no_more(tmp_path: Path, row: str, setup: Setup) -> None:
    with site_in(tmp_path / "site", setup) as site:
        ROWS[row](site)
