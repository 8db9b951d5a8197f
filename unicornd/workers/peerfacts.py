"""What an application is told of its client's certificate: mod_ssl's `SSL_CLIENT_…` in an environ, names and PEM in ASGI.

Pure; asked once a connection. No field of a request can have these names, since those begin with `HTTP_`.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from unicornd.http.environ import Environ

Name = tuple[tuple[tuple[str, str], ...], ...]
"""A distinguished name as `ssl` gives it: a tuple of sets of (type, value)."""

SHORT = {
    "commonName": "CN",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "streetAddress": "STREET",
    "domainComponent": "DC",
    "userId": "UID",
}
"""RFC 4514 section 3; other types keep the name that OpenSSL has for them."""
SPECIAL = frozenset('"+,;<>\\')
PEM_COLUMNS = 64


class Certificate(TypedDict, total=False):
    """The parts of `ssl.SSLSocket.getpeercert()` that are told."""

    subject: Name
    issuer: Name
    serialNumber: str
    notBefore: str
    notAfter: str


def facts_of(certificate: Certificate, der: bytes) -> Environ:
    """Return the environ's part about a certificate that was checked.

    Args:
        certificate: its parts.
        der: all of it.
    """
    return {
        "SSL_CLIENT_VERIFY": "SUCCESS",
        "SSL_CLIENT_S_DN": _native(certificate.get("subject", ())),
        "SSL_CLIENT_I_DN": _native(certificate.get("issuer", ())),
        "SSL_CLIENT_M_SERIAL": certificate.get("serialNumber", ""),
        "SSL_CLIENT_V_START": certificate.get("notBefore", ""),
        "SSL_CLIENT_V_END": certificate.get("notAfter", ""),
        "SSL_CLIENT_CERT": pem_of(der),
    }


def text_of(name: Name) -> str:
    """Return a name as RFC 4514 writes it, the last part first."""
    parts = ("+".join(f"{SHORT.get(key, key)}={_escaped(value)}" for key, value in part) for part in name)
    return ",".join(reversed(list(parts)))


def _native(name: Name) -> str:
    """Return a name as latin-1 of its UTF-8 (PEP 3333)."""
    return text_of(name).encode().decode("latin-1")


def _escaped(value: str) -> str:
    """RFC 4514 section 2.4."""
    text = "".join(f"\\{char}" if char in SPECIAL else char for char in value).replace("\0", "\\00")
    if text.endswith(" "):
        text = f"{text[:-1]}\\ "
    return f"\\{text}" if text.startswith((" ", "#")) else text


def pem_of(der: bytes) -> str:
    """Return a certificate as text (RFC 7468)."""
    text = base64.b64encode(der).decode()
    lines = [text[at : at + PEM_COLUMNS] for at in range(0, len(text), PEM_COLUMNS)]
    return "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""])
