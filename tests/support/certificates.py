"""Certificates for tests, made by the openssl command: an authority, what it signs, and TLS contexts for clients."""

from __future__ import annotations

import ssl
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

NAMES = "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A certificate and its key."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """Somebody who vouches for certificates."""

    folder: Path
    pair: Pair

    def sign(self, name: str, subject: str = "/CN=localhost") -> Pair:
        """Make a certificate for a server on this machine, or for a client."""
        pair = Pair(certificate=self.folder / f"{name}.pem", key=self.folder / f"{name}.key")
        openssl(
            "req", "-x509", "-utf8", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-CA", self.pair.certificate, "-CAkey", self.pair.key, "-subj", subject, "-addext", NAMES,
            "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", pair.key, "-out", pair.certificate,
        )  # fmt: skip
        return pair


def openssl(*arguments: str | Path) -> None:
    done = subprocess.run(
        ["openssl", *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr


def authority_in(folder: Path, name: str = "authority") -> Authority:
    pair = Pair(certificate=folder / f"{name}.pem", key=folder / f"{name}.key")
    openssl(
        "req", "-x509", "-utf8", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
        "-subj", f"/CN={name}", "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-keyout", pair.key, "-out", pair.certificate,
    )  # fmt: skip
    return Authority(folder=folder, pair=pair)


def client_context(authority: Authority, own: Pair | None = None) -> ssl.SSLContext:
    """Return what a client speaks with that trusts the authority, and shows a certificate of its own."""
    context = ssl.create_default_context(cafile=authority.pair.certificate)
    context.set_alpn_protocols(["h2", "http/1.1"])
    if own is not None:
        context.load_cert_chain(own.certificate, own.key)
    return context
