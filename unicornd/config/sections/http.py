"""[http]: how large a request may be, and where it is kept."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from unicornd.config.sections.section import ROLLING, Section
from unicornd.config.texts import PathText, Size

_Limit = Literal[0] | Annotated[int, Field(ge=64)]
"""No limit, or one that lets a plain request through."""


class HttpSettings(Section):
    """How large a request may be, and where it is kept until it is complete."""

    max_request_line: _Limit = Field(
        default=8000,
        description="Bytes of a request line; beyond: 414. RFC 9112 wants 8000 at least. 0: no limit but the one of the whole head, then 1 MiB.",
        json_schema_extra=ROLLING,
    )
    max_headers: int = Field(
        default=100,
        ge=0,
        description="Header fields; beyond: 431. 0: no limit but the one of the whole head, then 1 MiB.",
        json_schema_extra=ROLLING,
    )
    max_header_size: _Limit = Field(
        default=8190,
        description="Bytes of one header field; beyond: 431. 0: no limit but the one of the whole head, then 1 MiB.",
        json_schema_extra=ROLLING,
    )
    max_body_size: Size = Field(
        default=2**30, description="Bytes of a body; beyond: 413. 0: no limit.", json_schema_extra=ROLLING
    )
    body_memory: Size = Field(
        default=256 * 2**10,
        description="Bodies up to this size stay in memory, larger ones go to a temporary file.",
        json_schema_extra=ROLLING,
    )
    tmp_upload_dir: PathText | None = Field(
        default=None,
        description="Directory of the temporary files that large bodies go to. Default: the system's.",
        json_schema_extra=ROLLING,
    )
    response_buffer: Size = Field(
        default=2**20,
        description="Bytes of a response that are kept in memory for a slow client. What is more goes to a temporary file "
        "(http.response_spool), or else the application has to wait.",
        json_schema_extra=ROLLING,
    )
    response_spool: Size = Field(
        default=2**30,
        description="Bytes of one response that a temporary file takes when its client reads slowly, so that the "
        "application need not wait; beyond, it waits. In http.tmp_upload_dir. Not for responses of the type "
        "text/event-stream or with X-Accel-Buffering: no. 0: never.",
        json_schema_extra=ROLLING,
    )
    sendfile: bool = Field(
        default=True, description="Send wsgi.file_wrapper by sendfile(2).", json_schema_extra=ROLLING
    )
    header_map: Literal["drop", "refuse", "dangerous"] = Field(
        default="drop",
        description="Header names with an underscore, which an application cannot tell from those with a hyphen: "
        '"drop" them, "refuse" the request, or pass them on ("dangerous").',
        json_schema_extra=ROLLING,
    )
    permit_obsolete_folding: bool = Field(
        default=False,
        description="Accept header values that go on in the next line (obs-fold).",
        json_schema_extra=ROLLING,
    )
    strip_header_spaces: bool = Field(
        default=False,
        description="Accept blanks between a header's name and its colon.",
        json_schema_extra=ROLLING,
    )
    permit_unconventional_method: bool = Field(
        default=False,
        description='Accept methods with lower-case letters or "#", shorter than 3 or longer than 20.',
        json_schema_extra=ROLLING,
    )
    permit_unconventional_version: bool = Field(
        default=False,
        description="Accept HTTP versions other than 1.0 and 1.1; they are answered as 1.1.",
        json_schema_extra=ROLLING,
    )
    casefold_method: bool = Field(
        default=False, description="Make methods upper-case.", json_schema_extra=ROLLING
    )
