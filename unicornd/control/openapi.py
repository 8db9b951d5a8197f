"""`schemas/control.openapi.json`: the control API for people and generators, made from endpoints and models.

Run by a developer or by CI: `python -m unicornd.control.openapi write|check`. The arbiter never imports this.
"""

from __future__ import annotations

import json
import sys
from functools import cache, reduce
from http import HTTPStatus
from operator import or_
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.json_schema import models_json_schema

from unicornd import __version__
from unicornd.control import protocol
from unicornd.control.document import Document
from unicornd.control.endpoints import DRY_RUN, READ_ONLY, Description, Endpoint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from unicornd.control.document import About

SCHEMA_FILE = Path(__file__).parent.parent.parent / "schemas" / "control.openapi.json"

ABOUT = """\
HTTP/1.1 and JSON over the control socket of one unicornd: `curl --unix-socket PATH http://unicornd/v1/status`.
The kernel says who asks (SO_PEERCRED): root, the user that runs unicornd, `control.allow_users` and
`control.allow_groups` may do everything, `control.view_users` and `control.view_groups` may GET, everything else gets 403. At
`admin.bind`, a Host that is not declared gets 421. One operation that changes the fleet runs at a time: another one
gets 409 with the id of the running one; to stop is always allowed."""

REFUSALS: Mapping[HTTPStatus, str] = {
    HTTPStatus.BAD_REQUEST: "not understood",
    HTTPStatus.FORBIDDEN: "this user may not look at the fleet, or not change it",
    HTTPStatus.NOT_FOUND: "there is no such thing",
    HTTPStatus.CONFLICT: "not now: another operation is in progress",
    HTTPStatus.UNPROCESSABLE_ENTITY: "understood, but not possible",
}


MISDIRECTED = (HTTPStatus.MISDIRECTED_REQUEST, "at admin.bind: admin.hosts does not have that Host")


class _Closed(BaseModel):
    """Strict, and closed: what is not declared is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


@cache
def model_of(document: type[Document]) -> type[BaseModel]:
    """Return a model that takes exactly what a document may be, for the schema and for tests."""
    hints = get_type_hints(document, include_extras=True)
    fields: dict[str, Any] = {}
    for name, default in document.DEFAULTS.items():
        fields[name] = (Annotated[_modelled(hints[name]), Field(alias=name.rstrip("_"))], default)
    return create_model(document.__name__, __base__=_Closed, __doc__=document.__doc__, **fields)


def _modelled(hint: Any) -> Any:  # noqa: ANN401 - an annotation
    """Return an annotation with models in place of documents, and fields in place of what is said about them."""
    if isinstance(hint, type) and issubclass(hint, Document):
        return model_of(hint)  # type: ignore[arg-type] # the class is hashable; mypy takes it for what it makes
    parts = get_args(hint)
    match get_origin(hint):
        case None:
            return hint
        case origin if origin is Literal:
            return hint
        case origin if origin is Annotated:
            return Annotated[(_modelled(parts[0]), *map(_field, parts[1:]))]
        case origin if origin in {UnionType, Union}:
            return reduce(or_, map(_modelled, parts))
        case origin:
            return origin[tuple(map(_modelled, parts))]


def _field(about: About) -> Any:  # noqa: ANN401 - pydantic's FieldInfo
    extra: dict[str, Any] = {"json_schema_extra": {"format": about.format}} if about.format else {}
    return Field(description=about.text, ge=about.minimum, pattern=about.pattern, **extra)


def make_document() -> dict[str, Any]:
    """Return the OpenAPI document."""
    models = sorted(
        {model for endpoint in Endpoint for model in _models(endpoint.value)}, key=lambda m: m.__name__
    )
    _, definitions = models_json_schema(
        [(model_of(model), "serialization") for model in models],  # type: ignore[arg-type] # likewise
        by_alias=True,
        ref_template="#/components/schemas/{model}",
    )
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in Endpoint:
        paths.setdefault(endpoint.value.path, {})[endpoint.value.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {"title": "unicornd control API", "version": __version__, "description": ABOUT},
        "paths": paths,
        "components": {"schemas": definitions["$defs"]},
    }


def _models(description: Description) -> Sequence[type[Document]]:
    models = [model for model in (description.answer, description.body) if model is not None]
    return [*models, protocol.Problem, *([protocol.Plan] if DRY_RUN in description.parameters else [])]


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    description = endpoint.value
    operation: dict[str, Any] = {
        "operationId": endpoint.name.lower(),
        "summary": description.summary,
        "parameters": _parameters(description),
        "responses": _responses(endpoint),
    }
    if description.body is not None:
        operation["requestBody"] = {
            "required": description.body is protocol.ScaleRequest,
            "content": {"application/json": {"schema": _reference(description.body)}},
        }
    return operation


def _parameters(description: Description) -> list[dict[str, Any]]:
    variables = [part.strip("{}") for part in description.path.split("/") if part.startswith("{")]
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in variables
    ]
    in_query = [
        {
            "name": each.name,
            "in": "query",
            "description": each.about,
            "schema": {"type": each.type, "minimum": 0},
        }
        for each in description.parameters
    ]
    return [*in_path, *in_query]


def _responses(endpoint: Endpoint) -> dict[str, Any]:
    description = endpoint.value
    schema = {"type": "string"} if description.answer is None else _reference(description.answer)
    good = {"description": description.summary, "content": {description.content_type: {"schema": schema}}}
    responses: dict[str, Any] = {str(description.status.value): good}
    if DRY_RUN in description.parameters:
        content = {"application/json": {"schema": _reference(protocol.Plan)}}
        responses["200"] = {"description": "what would be done (dry_run)", "content": content}
    if description.answer is protocol.Health:
        responses["503"] = {**good, "description": "no, and why"}
    content = {"application/json": {"schema": _reference(protocol.Problem)}}
    for status, about in REFUSALS.items() if endpoint not in READ_ONLY else (*REFUSALS.items(), MISDIRECTED):
        responses[str(status.value)] = {"description": about, "content": content}
    responses["default"] = {
        "description": "no request that can be read (405, 408, 413, …)",
        "content": content,
    }
    return dict(sorted(responses.items()))


def _reference(model: type[Document]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def run(arguments: Sequence[str], *, file: Path = SCHEMA_FILE) -> int:
    """Write the file, or check that it is current; return the exit code."""
    text = json.dumps(make_document(), indent=2, ensure_ascii=False) + "\n"
    match arguments:
        case ["write"]:
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
            return 0
        case ["check"] if file.exists() and file.read_text() == text:
            return 0
        case ["check"]:
            sys.stderr.write(f"{file} is not current: python -m unicornd.control.openapi write\n")
            return 1
        case _:
            sys.stderr.write("usage: python -m unicornd.control.openapi write|check\n")
            return 2


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
