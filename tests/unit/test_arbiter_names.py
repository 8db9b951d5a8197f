"""Host names of statsd and syslog become addresses where the configuration is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from unicornd.arbiter.names import with_addresses
from unicornd.config.layers import load
from unicornd.config.loaded import Sources

if TYPE_CHECKING:
    from pathlib import Path

    from unicornd.config.loaded import Loaded

NO_NAME = "x" * 70
"""Longer than a label may be: no name server is asked."""


def loaded(folder: Path, text: str) -> Loaded:
    (folder / "unicornd.toml").write_text(f'[app]\ntarget = "shop:app"\n{text}')
    return with_addresses(load(Sources(folder=folder)))


@pytest.mark.parametrize(
    ("given", "address"),
    [("localhost:9125", "127.0.0.1:9125"), ("10.0.0.1", "10.0.0.1:8125"), ("[::1]:8125", "[::1]:8125"),
     ("unix:/run/statsd.sock", "unix:/run/statsd.sock")],
)  # fmt: skip
def test_metrics_are_sent_to_an_address(tmp_path: Path, given: str, address: str) -> None:
    found = loaded(tmp_path, f'[metrics]\nstatsd = "{given}"\n')
    assert str(found.settings.metrics.statsd) == address
    assert not found.losses


@pytest.mark.parametrize(
    ("given", "address"),
    [("udp://localhost", "udp://127.0.0.1:514"), ("tcp://[::1]:601", "tcp://[::1]:601"), ("unix:///dev/log", "unix:///dev/log")],
)  # fmt: skip
def test_syslog_is_sent_to_an_address(tmp_path: Path, given: str, address: str) -> None:
    found = loaded(tmp_path, f'[logging.syslog]\nenabled = true\naddress = "{given}"\n')
    assert found.settings.logging.syslog.address == address
    assert not found.losses


def test_what_cannot_be_looked_up_is_switched_off_and_told(tmp_path: Path) -> None:
    found = loaded(
        tmp_path,
        f'[metrics]\nstatsd = "{NO_NAME}:8125"\n[logging.syslog]\nenabled = true\naddress = "udp://{NO_NAME}"\n',
    )
    assert found.settings.metrics.statsd is None
    assert not found.settings.logging.syslog.enabled
    assert [loss.partition(":")[0] for loss in found.losses] == ["metrics.statsd", "logging.syslog.address"]
    shown = next(row.value for row in found.rows if row.key == "metrics.statsd")
    assert str(shown).startswith(NO_NAME), "what the operator has said is shown"


def test_nothing_changes_where_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "unicornd.toml").write_text('[app]\ntarget = "shop:app"\n')
    found = load(Sources(folder=tmp_path))
    assert with_addresses(found) is found
