"""From `[tls]` to the ssl.SSLContext that the TCP listeners of a worker speak with.

`make_context` is run by the arbiter, once to try the files and once a generation: the key may be for root only, a reload
reads the files again, and nothing else does. `custom_context` is run in each worker or mold, as its user.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, cast

from unicornd.errors import AppError, BootError, ConfigError
from unicornd.workers.apploader import load_object

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from unicornd.config.sections.tls import TlsSettings
    from unicornd.config.values import ImportString

VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}
DEMANDS = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
PROTOCOLS = ("http/1.1",)
"""What is offered by ALPN (RFC 7301)."""


def make_context(tls: TlsSettings) -> ssl.SSLContext:
    """Return the context of the settings; without `tls.certfile` it has no certificate yet (`hooks.ssl_context`).

    Raises:
        ConfigError: a file is not there, cannot be read, or is not what it should be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = VERSIONS[tls.minimum_version]
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(list(PROTOCOLS))
    if tls.ciphers is not None:
        try:
            context.set_ciphers(tls.ciphers)
        except ssl.SSLError as error:
            raise ConfigError(
                f"tls.ciphers: there is no such cipher suite in {tls.ciphers!r}",
                hint="`openssl ciphers -v` lists them; those of TLS 1.3 cannot be chosen",
            ) from error
    if tls.certfile is not None:
        _load_certificate(context, tls.certfile, key=tls.keyfile)
    if tls.ca_certs is not None:
        _load_authorities(context, tls.ca_certs)
    context.verify_mode = DEMANDS[tls.cert_reqs]
    return context


def custom_context(context: ssl.SSLContext, hook: ImportString, *, cfg: object) -> ssl.SSLContext:
    """Return what the operator's function makes of the settings' context.

    Args:
        context: of `make_context`; what the function gets from its second argument.
        hook: `hooks.ssl_context`.
        cfg: its first argument.

    Raises:
        ConfigError: it cannot be imported or called.
        BootError: it raised, or has returned something else.
    """
    made = _call(_loaded(hook), context, cfg=cfg)
    if not isinstance(made, ssl.SSLContext):
        raise BootError(
            f"hooks.ssl_context: {hook} has returned {type(made).__name__}, not an ssl.SSLContext",
            hint="return default_ssl_context_factory(), or a context that you have made",
        )
    return made


def _loaded(hook: ImportString) -> Callable[..., object]:
    try:
        function = load_object(hook)
    except (AppError, BootError) as error:
        message = error.message.removeprefix("app.target: ")
        raise ConfigError(f"hooks.ssl_context: {message}", hint=error.hint, detail=error.detail) from error
    if not callable(function):
        raise ConfigError(f"hooks.ssl_context: {hook} is not a function")
    return cast("Callable[..., object]", function)


def _call(function: Callable[..., object], context: ssl.SSLContext, *, cfg: object) -> object:
    try:
        return function(cfg, lambda: context)
    except Exception as error:
        raise BootError(
            f"hooks.ssl_context raised {type(error).__name__}: {error}",
            hint="it is called with (config, default_ssl_context_factory) and returns an ssl.SSLContext",
        ) from error


def _load_certificate(context: ssl.SSLContext, certificate: Path, *, key: Path | None) -> None:
    """Load a certificate with its chain, and its key.

    Raises:
        ConfigError: they cannot be used.
    """

    def no_password() -> str:
        name, file = ("tls.keyfile", key) if key is not None else ("tls.certfile", certificate)
        raise ConfigError(
            f"{name}: the key in {file} is encrypted, and nobody is there to be asked for its password",
            hint="decrypt it: openssl pkey -in KEY -out PLAIN; keep it readable for root only",
        )

    _check_pem("tls.certfile", certificate, what="CERTIFICATE-----", noun="certificate")
    if key is None:
        hint = "set tls.keyfile, or write the key into the same file"
        _check_pem("tls.certfile", certificate, what="PRIVATE KEY-----", noun="private key", hint=hint)
    else:
        _check_pem("tls.keyfile", key, what="PRIVATE KEY-----", noun="private key")
    try:
        context.load_cert_chain(certificate, key, no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(
                f"tls.keyfile: the key in {key or certificate} is not that of the certificate in {certificate}",
                hint="the server's own certificate comes first in its file, then its chain",
            ) from error
        files = f"{certificate} and {key}" if key is not None else f"{certificate}"
        raise ConfigError(
            f"tls.certfile: certificate and key in {files} cannot be used: {_reason(error)}",
            hint=f"look at it: openssl x509 -noout -text -in {certificate}",
        ) from error


def _load_authorities(context: ssl.SSLContext, file: Path) -> None:
    _check_pem("tls.ca_certs", file, what="CERTIFICATE-----", noun="certificate")
    try:
        context.load_verify_locations(file)
    except ssl.SSLError as error:
        raise ConfigError(f"tls.ca_certs: {file} cannot be used: {_reason(error)}") from error


def _check_pem(setting: str, file: Path, *, what: str, noun: str, hint: str = "") -> None:
    """Raise ConfigError if a file cannot be read or has no such part (OpenSSL says neither which nor why)."""
    try:
        text = file.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{setting}: {file} cannot be read: {error.strerror}",
            hint="the file has to be there when unicornd starts and when it reloads",
        ) from error
    if what.encode() not in text:
        raise ConfigError(f"{setting}: there is no {noun} in {file}", hint=hint or "it has to be a PEM file")


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()
