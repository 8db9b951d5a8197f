"""A connection's TLS → what an ASGI application is told of it: `scope["extensions"]["tls"]`.

Asked once a connection. https://asgi.readthedocs.io/en/latest/specs/tls.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unicornd.workers.peerfacts import pem_of, text_of

if TYPE_CHECKING:
    import asyncio
    import ssl

SUITE_BITS = 0xFFFF
"""Of OpenSSL's numbers: what the protocol itself has (RFC 8446 appendix B.4)."""
VERSIONS = {"TLSv1": 0x0301, "TLSv1.1": 0x0302, "TLSv1.2": 0x0303, "TLSv1.3": 0x0304}
"""RFC 8446 section 4.2.1."""


class TlsFacts:
    """What one worker's connections tell of their TLS.

    Args:
        context: what they speak TLS with.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self._suites = {str(suite["name"]): int(suite["id"]) & SUITE_BITS for suite in context.get_ciphers()}

    def of(self, transport: asyncio.BaseTransport | None) -> dict[str, dict[str, Any]]:
        """Return the extension under its name; empty for a connection without TLS.

        Of the client's certificates there is the first alone: `ssl` gives no more before Python 3.13. It is one that was
        checked, since a client with another one is not let in. Which certificate the client was shown, `ssl` does not say.
        """
        tls: Any = transport.get_extra_info("ssl_object") if transport is not None else None
        if tls is None:
            return {}
        certificate: Any = tls.getpeercert() or {}
        cipher = tls.cipher()
        facts = {
            "server_cert": None,
            "client_cert_chain": [pem_of(tls.getpeercert(binary_form=True))] if certificate else [],
            "client_cert_name": text_of(certificate.get("subject", ())) if certificate else None,
            "client_cert_error": None,
            "tls_version": VERSIONS.get(tls.version()),
            "cipher_suite": self._suites.get(cipher[0]) if cipher else None,
        }
        return {"tls": facts}
