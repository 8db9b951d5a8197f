"""Documents of the control language."""

from __future__ import annotations

import json

import pytest

from unicornd.control.document import Document
from unicornd.control.protocol import Event, Failure, Problem


def test_it_is_written_in_the_order_of_its_declaration_with_defaults() -> None:
    problem = Problem(error=Failure(exit_code=1, message="ü\ud800"))
    assert problem.json() == (
        '{"schema":1,"error":{"message":"ü?","hint":"","detail":"","exit_code":1,"operation":""}}'.encode()
    )
    assert list(json.loads(problem.json())) == ["schema", "error"]


def test_a_value_that_is_missing_or_not_declared_is_a_defect() -> None:
    with pytest.raises(TypeError, match="Failure: message"):
        Failure(exit_code=1)  # type: ignore[call-arg] # on purpose
    with pytest.raises(TypeError, match="Failure: massage"):
        Failure(exit_code=1, message="", massage="")  # type: ignore[call-arg] # on purpose


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_json_has_no_word_for_is_a_defect(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        Event(seq=1, at="", kind="", text="", facts={"seconds": number}).json()


def test_it_does_not_change() -> None:
    event = Event(seq=1, at="", kind="", text="")
    with pytest.raises(AttributeError, match="a document does not change: seq"):
        event.seq = 2  # type: ignore[misc] # on purpose
    assert repr(event) == "Event(seq=1, at='', kind='', text='', facts={})"


def test_a_document_of_documents_is_one() -> None:
    class Leaf(Document):
        n: int

    class Tree(Document):
        leaves: list[Leaf]

    assert Tree(leaves=[Leaf(n=1), Leaf(n=2)]).json() == b'{"leaves":[{"n":1},{"n":2}]}'
