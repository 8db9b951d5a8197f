"""A body on its way from the socket to `wsgi.input`."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

from tests.support.worker import POLICY
from unicornd.dataclass import replace
from unicornd.http.errors import Refusal
from unicornd.http.limits import Limits
from unicornd.http.messages import UNKNOWN_LENGTH
from unicornd.workers.spool import Spool

if TYPE_CHECKING:
    from pathlib import Path

CHUNKED = b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"


@pytest.mark.parametrize("step", [1, 2, 5, 100])
@pytest.mark.parametrize("memory", [0, 3, 6, 7, 100])
@pytest.mark.parametrize(("length", "data"), [(7, b"abcdefg"), (UNKNOWN_LENGTH, CHUNKED)])
def test_a_body_is_read_as_it_was_sent_whatever_the_pieces_and_wherever_it_is_kept(
    tmp_path: Path, length: int, data: bytes, memory: int, step: int
) -> None:
    spool = Spool(length, replace(POLICY, body_memory=memory, tmp_upload_dir=str(tmp_path)))
    data += b"NEXT"
    position = 0
    while not spool.is_complete:
        spool.feed(data[position : position + step])
        position += step
    body = spool.rewound()
    assert body.read(2) == b"ab"
    assert body.readline() == b"cdefg"
    assert isinstance(body, io.BytesIO) is (memory >= 7)
    assert spool.rewound().read() == b"abcdefg"
    assert b"NEXT".startswith(spool.leftover)
    assert spool.size == 7
    assert not list(tmp_path.iterdir())
    spool.close()
    assert body.closed


def test_a_body_over_the_limit_is_refused_when_it_is_announced() -> None:
    with pytest.raises(Refusal, match="413"):
        Spool(11, replace(POLICY, limits=Limits(body_size=10)))


def test_a_chunked_body_over_the_limit_is_refused_when_it_gets_there() -> None:
    spool = Spool(UNKNOWN_LENGTH, replace(POLICY, limits=Limits(body_size=5)))
    with pytest.raises(Refusal, match="413"):
        spool.feed(CHUNKED)


def test_a_folder_that_is_missing_is_told_as_507(tmp_path: Path) -> None:
    spool = Spool(7, replace(POLICY, body_memory=1, tmp_upload_dir=str(tmp_path / "missing")))
    with pytest.raises(Refusal, match="507"):
        spool.feed(b"abcdefg")
