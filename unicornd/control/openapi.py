"""`schemas/control.openapi.json`: the control API for people and generators, made from endpoints and models.

Run by a developer or by CI: `python -m unicornd.control.openapi write|check`. The arbiter never imports this.
"""

from __future__ import annotations

import json
import sys
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic.json_schema import models_json_schema

from unicornd import __version__
from unicornd.control import protocol
from unicornd.control.endpoints import DRY_RUN, Description, Endpoint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import BaseModel

SCHEMA_FILE = Path(__file__).parent.parent.parent / "schemas" / "control.openapi.json"

ABOUT = """\
HTTP/1.1 and JSON over the control socket of one unicornd: `curl --unix-socket PATH http://unicornd/v1/status`.
The kernel says who asks (SO_PEERCRED): root, the user that runs unicornd, `control.allow_users` and
`control.allow_groups` may, everybody else gets 403. One operation that changes the fleet runs at a time: another one
gets 409 with the id of the running one; to stop is always allowed."""

REFUSALS: Mapping[HTTPStatus, str] = {
    HTTPStatus.BAD_REQUEST: "not understood",
    HTTPStatus.FORBIDDEN: "this user may not control the fleet",
    HTTPStatus.NOT_FOUND: "there is no such thing",
    HTTPStatus.CONFLICT: "not now: another operation is in progress",
    HTTPStatus.UNPROCESSABLE_ENTITY: "understood, but not possible",
}


def make_document() -> dict[str, Any]:
    """Return the OpenAPI document."""
    models = sorted(
        {model for endpoint in Endpoint for model in _models(endpoint.value)}, key=lambda m: m.__name__
    )
    _, definitions = models_json_schema(
        [(model, "serialization") for model in models],
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


def _models(description: Description) -> Sequence[type[BaseModel]]:
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
    for status, about in REFUSALS.items():
        responses[str(status.value)] = {"description": about, "content": content}
    return dict(sorted(responses.items()))


def _reference(model: type[BaseModel]) -> dict[str, str]:
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
