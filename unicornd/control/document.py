"""What a JSON document of the control language is made of: named values, written in the order in which they are declared.

In the arbiter, which carries no library for it. Annotations say the types, to the type checker and to
`control.openapi`, which makes models of them; nothing looks at them in the arbiter. What the arbiter *reads* is
checked by `control.documents`.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping  # noqa: TC003 - `control.openapi` reads the annotations
from typing import Any, ClassVar, NamedTuple, dataclass_transform

from unicornd.escaping import json_text


class About(NamedTuple):
    """What the schema says of a value beside its type, in `Annotated`.

    Attributes:
        text: description.
        minimum: of a number; `pattern`, `format`: of a text.
    """

    text: str | None = None
    minimum: int | None = None
    pattern: str | None = None
    format: str | None = None


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Document:
    """A JSON object. A subclass declares its values as a dataclass does; a trailing underscore is no part of a name.

    Args:
        values: by name; those that have no default must be there.

    Raises:
        TypeError: one is missing, or not declared: a defect of ours.
    """

    DEFAULTS: ClassVar[Mapping[str, Any]] = {}
    """Every declared name → its default, or `...`."""

    def __init_subclass__(cls) -> None:
        declared = {name: cls.__dict__.get(name, ...) for name in inspect.get_annotations(cls)}
        cls.DEFAULTS = {**cls.DEFAULTS, **{name: each for name, each in declared.items() if name not in _OWN}}

    def __init__(self, **values: Any) -> None:  # noqa: ANN401 - as declared
        found = {**self.DEFAULTS, **values}
        if len(found) > len(self.DEFAULTS) or ... in found.values():
            wrong = [name for name in found if name not in self.DEFAULTS or found[name] is ...]
            raise TypeError(f"{type(self).__name__}: {', '.join(wrong)}")
        self.__dict__.update(found)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a document does not change: {name}")

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({', '.join(f'{name}={each!r}' for name, each in self.__dict__.items())})"
        )

    def table(self) -> dict[str, Any]:
        """Return the values under the names that they have in JSON; what is in them is as it was."""
        return {name.rstrip("_"): each for name, each in self.__dict__.items()}

    def json(self) -> bytes:
        """Return the document as JSON (RFC 8259), on one line.

        Raises:
            ValueError: a number is not finite, for which JSON has no word: a defect of ours.
        """
        text = json.dumps(
            self, default=Document.table, ensure_ascii=False, allow_nan=False, separators=(",", ":")
        )
        return json_text(text.encode(errors="replace").decode()).encode()


_OWN = frozenset({"DEFAULTS", "FORMS"})
