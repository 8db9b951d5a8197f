"""What is logged of header fields that are dropped."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from unicornd.workers.dropped import MOST_TOLD, Dropped

if TYPE_CHECKING:
    import pytest

LOG = logging.getLogger(__name__)


def test_each_name_of_each_peer_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    dropped = Dropped(LOG, setting="proxy.forwarder_headers")
    with caplog.at_level(logging.INFO):
        for peer, name in (("1.2.3.4", "X_A"), ("1.2.3.4", "x_a"), ("5.6.7.8", "X_A"), ("", "X_B")):
            dropped(peer, name)
    said = [(record.__dict__["peer"], record.__dict__["header"]) for record in caplog.records]
    assert said == [("1.2.3.4", "X_A"), ("5.6.7.8", "X_A"), ("a Unix socket", "X_B")]
    assert {record.__dict__["setting"] for record in caplog.records} == {"proxy.forwarder_headers"}


def test_a_flood_of_names_is_logged_within_bounds(caplog: pytest.LogCaptureFixture) -> None:
    dropped = Dropped(LOG, setting="")
    with caplog.at_level(logging.INFO):
        for number in range(MOST_TOLD * 2):
            dropped("1.2.3.4", f"X_{number}")
    assert len(caplog.records) == MOST_TOLD
    assert not any(hasattr(record, "setting") for record in caplog.records)
