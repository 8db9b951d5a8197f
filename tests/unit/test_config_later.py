"""What is known and not there yet is refused, never ignored."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import TypeAdapter, ValidationError

from unicornd.config.sections.section import LATER


def test_a_setting_that_is_to_come_says_so() -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(Annotated[bool, LATER])
    with pytest.raises(ValidationError, match="it is not available in this version; leave it out"):
        adapter.validate_json("true")
