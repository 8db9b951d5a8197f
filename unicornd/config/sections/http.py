"""[http]: how large a request may be, and where it is kept."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from unicornd.config.sections.section import ROLLING, Section
from unicornd.config.values import Size


class HttpSettings(Section):
    """How large a request may be, and where it is kept until it is complete."""

    max_request_line: int = Field(
        default=4094, ge=64, description="Bytes of a request line; beyond: 414.", json_schema_extra=ROLLING
    )
    max_headers: int = Field(
        default=100, ge=1, description="Header fields; beyond: 431.", json_schema_extra=ROLLING
    )
    max_header_size: int = Field(
        default=8190, ge=64, description="Bytes of one header field; beyond: 431.", json_schema_extra=ROLLING
    )
    max_body_size: Size = Field(
        default=2**30, description="Bytes of a body; beyond: 413. 0: no limit.", json_schema_extra=ROLLING
    )
    body_memory: Size = Field(
        default=256 * 2**10,
        description="Bodies up to this size stay in memory, larger ones go to a temporary file.",
        json_schema_extra=ROLLING,
    )
    tmp_upload_dir: Path | None = Field(
        default=None,
        description="Directory of these files. Default: the system's.",
        json_schema_extra=ROLLING,
    )
    response_buffer: Size = Field(
        default=2**20,
        description="Bytes of a response that are kept for a slow client before the application has to wait.",
        json_schema_extra=ROLLING,
    )
    sendfile: bool = Field(
        default=True, description="Send wsgi.file_wrapper by sendfile(2).", json_schema_extra=ROLLING
    )
