"""Our settings under gunicorn's names: what hooks and logger classes that were written for it get as `cfg`.

Made once a generation; values are those of gunicorn's documentation where ours have another form (texts for addresses and
imports, None for what is not set).
"""

from __future__ import annotations

import grp
import os
import pwd
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from unicornd.config.gunicorn import ROWS
from unicornd.config.instance import working_folder
from unicornd.config.kinds import kind_of
from unicornd.config.resolved import count_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from unicornd.config.gunicorn import Row
    from unicornd.config.settings import Settings
    from unicornd.config.values import Address, Statsd


class GunicornView(SimpleNamespace):
    """gunicorn's setting names as attributes; `unicornd` has our own settings.

    Args:
        settings: ours.
        name: of the instance.
    """

    def __init__(self, settings: Settings, *, name: str = "unicornd") -> None:
        values = {row.name: _value(settings, row) for row in ROWS if not row.is_retired}
        forms = {key: form(values[key]) for key, form in _FORMS.items()}
        super().__init__(**{**values, **forms})
        self.unicornd = settings
        self.workers = count_of(settings.workers)
        self.worker_class = self.worker_class_str = kind_of(settings.workers)
        self.proc_name = self.default_proc_name = settings.process.name or name
        self.address = [place_of(address) for address in settings.server.bind]
        self.is_ssl = settings.tls.certfile is not None or settings.hooks.ssl_context is not None
        self.uid, self.gid = _identity(settings.process.user, settings.process.group)
        self.user, self.group = self.uid, self.gid
        self.env = dict(settings.app.env)
        self.paste_global_conf = dict(settings.app.paste_global)
        self.syslog_prefix = settings.logging.syslog.prefix
        self.disable_redirect_access_to_syslog = not settings.logging.syslog.access
        self.control_socket_disable = not settings.control.enabled
        self.settings = {row.name: SettingView(self, row.name) for row in ROWS if not row.is_retired}


class SettingView:
    """What `cfg.settings[name]` is: it has the setting's name, and its value by `get()`."""

    def __init__(self, cfg: GunicornView, name: str) -> None:
        self._cfg = cfg
        self.name = name

    @property
    def value(self) -> Any:  # noqa: ANN401 - of every kind
        """The value."""
        return getattr(self._cfg, self.name)

    def get(self) -> Any:  # noqa: ANN401 - as above
        """Return the value."""
        return self.value


def _value(settings: Settings, row: Row) -> Any:  # noqa: ANN401 - of every kind
    """Return our value, or gunicorn's default for what has no counterpart."""
    if not row.keys:
        default = _DEFAULTS.get(row.name, row.default)
        return list(default) if isinstance(default, tuple) else default
    found: Any = settings
    for part in row.keys[0].split("."):
        found = getattr(found, part)
    return found


def _identity(user: str | None, group: str | None) -> tuple[int | str, int | str]:
    """Return the numbers of user and group; the name of one that is not known."""
    uid: int | str = os.geteuid()
    gid: int | str = os.getegid()
    with suppress(KeyError, ValueError):
        if user is not None:
            uid = user
            entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
            uid, gid = entry.pw_uid, entry.pw_gid
    uid = int(uid) if str(uid).isdecimal() else uid
    if group is not None:
        gid = int(group) if group.isdecimal() else group
        with suppress(KeyError):
            gid = grp.getgrnam(group).gr_gid
    return uid, gid


def place_of(address: Address) -> tuple[str, int] | str:
    """Return an address as `socket` has it."""
    match address.kind:
        case "tcp":
            return address.host, address.port
        case "unix":
            return address.path
        case _:
            return str(address)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _dotted(value: object) -> str | None:
    return None if value is None else str(value).replace(":", ".")


def _texts(value: tuple[object, ...]) -> list[str]:
    return [str(each) for each in value]


def _pairs(value: dict[str, str]) -> list[str]:
    return [f"{key}={text}" for key, text in value.items()]


def _commas(value: tuple[object, ...]) -> str | None:
    return ",".join(map(str, value)) or None


def _seconds(value: float) -> float:
    """Whole seconds are whole numbers there."""
    return int(value) if value == int(value) else value


def _target(value: Statsd | None) -> tuple[str, int] | str | None:
    return None if value is None else value.path or (value.host, value.port)


_DEFAULTS: dict[str, object] = {
    "check_config": False,
    "print_config": False,
    "http_parser": "auto",
    "http_protocols": ("h1",),
    "suppress_ragged_eofs": True,
    "do_handshake_on_connect": False,
}
"""Of what is said by no setting of ours; those of refused ones are in the table."""
_FORMS: dict[str, Callable[[Any], object]] = {
    **dict.fromkeys(("wsgi_app", "pidfile", "certfile", "keyfile", "ca_certs", "tmp_upload_dir"), _text),
    **dict.fromkeys(("logconfig", "logconfig_json"), _text),
    **dict.fromkeys(("timeout", "graceful_timeout", "keepalive", "asgi_disconnect_grace_period"), _seconds),
    **dict.fromkeys(("bind", "reload_extra_files", "forwarder_headers"), _texts),
    **dict.fromkeys(("forwarded_allow_ips", "proxy_allow_ips", "uwsgi_allow_ips"), _texts),
    **dict.fromkeys(("raw_env", "raw_paste_global_conf"), _pairs),
    "chdir": lambda folder: str(folder or working_folder()),
    "umask": lambda mode: mode or 0,
    "cert_reqs": ("none", "optional", "required").index,
    "logger_class": _dotted,
    "pythonpath": _commas,
    "statsd_host": _target,
}
