"""Sockets that are passed on: what the variables say has to be there."""

from __future__ import annotations

import os

import pytest

from unicornd.errors import ListenError
from unicornd.sockets.inherit import take_passed


def test_descriptors_that_are_not_there_are_told() -> None:
    os.close(taken := os.dup(0))
    environ = {"LISTEN_PID": "7", "LISTEN_FDS": str(taken - 2)}
    with pytest.raises(ListenError, match="is not open"):
        take_passed(environ, 7)
    assert environ == {}, "no child is told the same"


@pytest.mark.parametrize("count", ["", "-1", "three"])
def test_what_is_no_number_passes_nothing_on(count: str) -> None:
    assert take_passed({"LISTEN_PID": "7", "LISTEN_FDS": count}, 7) == ()
