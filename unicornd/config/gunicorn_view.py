"""Our settings under gunicorn's names: what hooks and logger classes that were written for it get as `cfg`.

Made once a generation; values are those of gunicorn's documentation where ours have another form (texts for addresses and
imports, None for what is not set).
"""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from unicornd.config.gunicorn import ROWS
from unicornd.config.kinds import kind_of
from unicornd.config.resolved import count_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from unicornd.config.settings import Settings


class GunicornView(SimpleNamespace):
    """gunicorn's setting names as attributes; `unicornd` has our own settings.

    Args:
        settings: ours.
        name: of the instance.
    """

    def __init__(self, settings: Settings, *, name: str = "unicornd") -> None:
        values = {row.name: _value(settings, row.keys) for row in ROWS if not row.is_retired}
        forms = {key: form(values[key]) for key, form in _FORMS.items()}
        super().__init__(**{**values, **forms})
        self.unicornd = settings
        self.workers = count_of(settings.workers)
        self.worker_class = self.worker_class_str = kind_of(settings.workers)
        self.proc_name = self.default_proc_name = settings.process.name or name
        self.address = self.bind
        self.is_ssl = settings.tls.certfile is not None or settings.hooks.ssl_context is not None
        self.user = self.uid = settings.process.user if settings.process.user is not None else os.geteuid()
        self.group = self.gid = settings.process.group if settings.process.group is not None else os.getegid()
        self.env = dict(settings.app.env)
        self.syslog_prefix = settings.logging.syslog.prefix
        self.disable_redirect_access_to_syslog = not settings.logging.syslog.access
        self.control_socket_disable = not settings.control.enabled


def _value(settings: Settings, keys: tuple[str, ...]) -> Any:  # noqa: ANN401 - of every kind
    if not keys:
        return None
    found: Any = settings
    for part in keys[0].split("."):
        found = getattr(found, part)
    return found


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _dotted(value: object) -> str | None:
    return None if value is None else str(value).replace(":", ".")


def _texts(value: tuple[object, ...]) -> list[str]:
    return [str(each) for each in value]


def _pairs(value: dict[str, str]) -> list[str]:
    return [f"{key}={text}" for key, text in value.items()]


def _commas(value: tuple[object, ...]) -> str:
    return ",".join(map(str, value))


_FORMS: dict[str, Callable[[Any], object]] = {
    **dict.fromkeys(
        ("wsgi_app", "chdir", "pidfile", "certfile", "keyfile", "ca_certs", "tmp_upload_dir"), _text
    ),
    **dict.fromkeys(("logconfig", "logconfig_json", "statsd_host"), _text),
    "logger_class": _dotted,
    "bind": _texts,
    "raw_env": _pairs,
    "forwarded_allow_ips": _commas,
    "proxy_allow_ips": _commas,
}
