"""[tls]: certificates, and what is asked of clients."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from unicornd.config.sections.section import ROLLING, Section
from unicornd.config.texts import PathText


class TlsSettings(Section):
    """HTTPS. Every TCP listener speaks TLS if there is a certificate; files are read again by a reload."""

    certfile: PathText | None = Field(
        default=None, description="Certificate with its chain (PEM).", json_schema_extra=ROLLING
    )
    keyfile: PathText | None = Field(
        default=None,
        description="The certificate's private key (PEM). Default: in the certificate's file.",
        json_schema_extra=ROLLING,
    )
    ca_certs: PathText | None = Field(
        default=None,
        description="Authorities that clients' certificates are checked against (PEM).",
        json_schema_extra=ROLLING,
    )
    cert_reqs: Literal["none", "optional", "required"] = Field(
        default="none", description="Whether a client needs a certificate.", json_schema_extra=ROLLING
    )
    minimum_version: Literal["TLSv1.2", "TLSv1.3"] = Field(
        default="TLSv1.2", description="The oldest version of TLS that is spoken.", json_schema_extra=ROLLING
    )
    ciphers: str | None = Field(
        default=None,
        description="Cipher suites for TLS 1.2, in OpenSSL's notation. Default: those of Python's ssl module.",
        json_schema_extra=ROLLING,
    )
