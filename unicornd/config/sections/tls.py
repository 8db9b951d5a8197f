"""[tls]: certificates, and what is asked of clients."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from unicornd.config.sections.section import LATER, ROLLING, Section


class TlsSettings(Section):
    """HTTPS. Every TCP listener speaks TLS if there is a certificate; files are read again by a reload."""

    certfile: Annotated[Path | None, LATER] = Field(
        default=None, description="Certificate with its chain (PEM).", json_schema_extra=ROLLING
    )
    keyfile: Annotated[Path | None, LATER] = Field(
        default=None,
        description="Its private key (PEM). Default: in the certificate's file.",
        json_schema_extra=ROLLING,
    )
    ca_certs: Annotated[Path | None, LATER] = Field(
        default=None,
        description="Authorities that clients' certificates are checked against (PEM).",
        json_schema_extra=ROLLING,
    )
    cert_reqs: Annotated[Literal["none", "optional", "required"], LATER] = Field(
        default="none", description="Whether a client needs a certificate.", json_schema_extra=ROLLING
    )
    minimum_version: Annotated[Literal["TLSv1.2", "TLSv1.3"], LATER] = Field(
        default="TLSv1.2", description="The oldest version of TLS that is spoken.", json_schema_extra=ROLLING
    )
    ciphers: Annotated[str | None, LATER] = Field(
        default=None,
        description="Cipher suites for TLS 1.2, in OpenSSL's notation. Default: those of Python's ssl module.",
        json_schema_extra=ROLLING,
    )
