"""What a machine needs beside a configuration: a unit of systemd, a file for logrotate. Texts, made for one configuration.

Runs in the command's process; reads the file system, writes nothing.
"""

from __future__ import annotations

import grp
import math
import os
import pwd
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from unicornd.config.instance import fitting_name
from unicornd.control.client import ControlError
from unicornd.dataclass import dataclass
from unicornd.errors import CtlExit
from unicornd.shipped import PACKAGE, shipped

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from unicornd.config.loaded import Loaded

HOMES = ("/home", "/root", "/run/user")
"""What ProtectHome= closes (systemd.exec(5))."""
TEMPORARY = Path("/tmp")  # noqa: S108 - it is only compared
PRIVILEGED = 1024
"""Below it a port wants CAP_NET_BIND_SERVICE."""
SPARE = 5.0
"""Seconds that systemd waits longer than the stop may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One configuration on this machine.

    Attributes:
        name: of the unit.
        file: the configuration, as it was said.
        loaded: what it says.
        user: whom the fleet runs as; group: theirs.
        folder: of the programs of this environment.
    """

    name: str
    file: Path
    loaded: Loaded
    user: str
    group: str
    folder: Path

    def command(self, program: str, *arguments: str) -> list[str]:
        """Return the command that runs a program of this environment with the configuration."""
        path = self.folder / program
        own = [str(path)] if path.exists() else [sys.executable, "-Pm", _MODULES[program]]
        return [*own, "--config", str(self.file), *arguments]


_MODULES = {"unicornd": "unicornd", "unicornctl": "unicornd.cli.ctl"}


def site_of(loaded: Loaded, *, file: Path, user: str, name: str) -> Site:
    """Return what is known of a configuration on this machine.

    Args:
        loaded: what it says.
        file: where it is.
        user: whom it is to run as; empty: `process.user`, else the owner of the file, if that is not root.
        name: of the unit; empty: `process.name`, or the file's folder.

    Raises:
        ControlError: it is not clear as whom, or there is no such user.
    """
    process = loaded.settings.process
    owner = file.stat().st_uid
    wanted = user or str(process.user or "") or (pwd.getpwuid(owner).pw_name if owner else "")
    if not wanted:
        raise ControlError(
            "as whom is it to run? process.user is not set, and the file is root's",
            code=CtlExit.USAGE,
            hint="--user NAME says it; --user root is possible",
        )
    try:
        entry = pwd.getpwuid(int(wanted)) if wanted.isdigit() else pwd.getpwnam(wanted)
    except KeyError:
        raise ControlError(f"there is no user {wanted}", code=CtlExit.USAGE) from None
    group = str(process.group or grp.getgrgid(entry.pw_gid).gr_name)
    return Site(
        name=fitting_name(name or process.name or file.parent.name) or "unicornd",
        file=file,
        loaded=loaded,
        user=entry.pw_name,
        group=group,
        folder=Path(sys.executable).parent,
    )


# systemd.


def service_text(site: Site, *, has_socket: bool) -> str:
    """Return the unit of a fleet: the shipped one, with the paths, the user and the times of this configuration."""
    changes = {
        **_of_commands(site, has_socket=has_socket),
        **_of_user(site, has_socket=has_socket),
        **_of_paths(site),
        **_of_times(site),
    }
    head = [f"# The fleet of {site.file}, made by `unicornctl config unit`. Make it anew after a change to"]
    head += ["# paths, user, addresses, logs or timeouts there."]
    text = shipped("systemd/unicornd.service").read_text(encoding="utf-8")
    body = text[text.index("[Unit]") :].splitlines()
    if has_socket:
        body[1:1] = [f"Requires={site.name}.socket", f"After={site.name}.socket"]
    return "\n".join([*head, *_changed(body, changes)]) + "\n"


def socket_text(site: Site) -> str:
    """Return the unit that opens the addresses of `server.bind` for the fleet.

    Raises:
        ControlError: there is none that systemd could open.
    """
    server = site.loaded.settings.server
    found = [f"ListenStream={_listen(each)}" for each in server.bind if each.kind != "fd"]
    if not found:
        raise ControlError(
            "server.bind names no address that a socket unit could open", code=CtlExit.FAILED,
            hint="say the address in the unit yourself: ListenStream=8000",
        )  # fmt: skip
    text = shipped("systemd/unicornd.socket").read_text(encoding="utf-8")
    body = text[text.index("[Unit]") :].splitlines()
    place = body.index("ListenStream=8000")
    body[place : place + 1] = found
    if any(each.kind == "unix" for each in server.bind):
        body.insert(place + len(found), f"SocketMode={server.socket_mode:04o}")
    changes = {
        "Description": f"unicornd web fleet {site.name}, listening socket",
        "Backlog": str(server.backlog),
    }
    head = f"# For {site.name}.service, of {site.file}: `config unit --with-socket` makes a service that takes these sockets."
    return "\n".join([head, *_changed(body, changes)]) + "\n"


def _listen(address: object) -> str:
    text = str(address)
    return text.removeprefix("unix:") if text.startswith("unix:") else text


def _of_commands(site: Site, *, has_socket: bool) -> Mapping[str, str]:
    more = ["--set", "process.daemon=false"] if site.loaded.settings.process.daemon else []
    more += ["--bind", "fd://"] if has_socket else []
    return {
        "Description": f"unicornd web fleet {site.name}",
        "ExecStart": _line(site.command("unicornd", *more)),
        "ExecReload": _line(site.command("unicornctl", "reload")),
        "WorkingDirectory": _escaped(str(site.loaded.settings.app.chdir or site.file.parent)),
    }


def _of_user(site: Site, *, has_socket: bool) -> Mapping[str, str | None]:
    if site.user == "root":  # it drops its rights itself (process.user), for which it has to have them
        keys = (
            "CapabilityBoundingSet",
            "AmbientCapabilities",
            "SystemCallFilter=~@privileged @resources",
            "NoNewPrivileges",
        )
        return {"User": "root", "Group": "root", **dict.fromkeys(keys)}
    ports = [each.port for each in site.loaded.settings.server.bind if each.kind == "tcp"]
    is_low = any(0 < port < PRIVILEGED for port in ports) and not has_socket
    right = "CAP_NET_BIND_SERVICE" if is_low else ""
    return {
        "User": site.user,
        "Group": site.group,
        "CapabilityBoundingSet": right,
        "AmbientCapabilities": right,
    }


def _of_paths(site: Site) -> Mapping[str, str]:
    """Open what the shipped unit closes, where this configuration needs it."""
    folders = [path.parent for path in _written(site)]
    app = site.loaded.settings.app
    # An environment's interpreter is a link to the one that it was made of, which may lie in a home (pyenv, uv).
    used = (site.folder, sys.base_prefix, PACKAGE, site.file, app.chdir, *app.pythonpath)
    read = [Path(path) for path in used if path is not None]
    runtime = [f"unicornd/{site.name}", *_below("/run", folders)]
    rest = [path for path in folders if not path.is_relative_to("/run") and not _below("/var/log", [path])]
    kept = [f"-{path}" for path in dict.fromkeys([*rest, site.file.with_suffix(".d")])]
    is_home = any(path.is_relative_to(home) for path in [*read, *rest] for home in HOMES)
    is_tmp = any(path.is_relative_to(TEMPORARY) for path in [*read, *rest])
    logs = _below("/var/log", folders)
    return {
        "RuntimeDirectory": " ".join(dict.fromkeys(runtime))
        + (f"\nLogsDirectory={' '.join(logs)}" if logs else ""),
        "ProtectHome": "read-only" if is_home else "yes",
        "PrivateTmp": "no" if is_tmp else "yes",
        "ProtectSystem": f"strict\nReadWritePaths={_line(kept)}",
    }


def _below(top: str, folders: Sequence[Path]) -> list[str]:
    """Return the folders below one that systemd makes for a service (RuntimeDirectory=, LogsDirectory=), from there."""
    found = (str(path.relative_to(top)) for path in folders if path.is_relative_to(top) and path != Path(top))
    return list(dict.fromkeys(found))


def _written(site: Site) -> list[Path]:
    """Return the files that the fleet makes: logs, pidfile, Unix sockets."""
    settings = site.loaded.settings
    said = [settings.process.pidfile, settings.control.socket, *log_files(site.loaded)]
    said += [each.path for each in settings.server.bind if each.kind == "unix"]
    return [
        Path(str(path))
        for path in said
        if path and str(path).startswith("/") and not str(path).startswith("/dev/")
    ]


def _of_times(site: Site) -> Mapping[str, str]:
    timeouts = site.loaded.settings.timeouts
    stop = timeouts.drain + timeouts.graceful + timeouts.kill + SPARE
    return {
        "TimeoutStartSec": f"{max(90, math.ceil(timeouts.boot) + 30)}s",
        "TimeoutStopSec": f"{math.ceil(stop)}s",
    }


def _changed(lines: Sequence[str], changes: Mapping[str, str | None]) -> Iterator[str]:
    """Yield the lines of a unit, with other values for some keys; a key or a whole line with None is left out."""
    for line in lines:
        key, equals, _ = line.partition("=")
        name = line if line in changes else key
        if not equals or name not in changes:
            yield line
        elif (value := changes[name]) is not None:
            yield f"{key}={value}"


def _line(words: Sequence[str]) -> str:
    return " ".join(
        f'"{_escaped(word)}"' if set(word) & set(" \t\"'\\;") else _escaped(word) for word in words
    )


def _escaped(text: str) -> str:
    """Return text as a unit has it (systemd.unit(5), specifiers; systemd.service(5), command lines)."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")


# logrotate.


def log_files(loaded: Loaded) -> list[str]:
    """Return the files that the fleet logs to."""
    logging = loaded.settings.logging
    return [
        path
        for path in (logging.error, logging.access.file)
        if path and path != "-" and not path.startswith("/dev/")
    ]


def logrotate_text(site: Site) -> str:
    """Return what logrotate(8) has to know.

    Raises:
        ControlError: there are no log files.
    """
    files = log_files(site.loaded)
    if not files:
        raise ControlError(
            "there are no log files: logging.error and logging.access.file name none",
            code=CtlExit.FAILED,
            hint="the journal, and whoever reads standard error, rotates by itself",
        )
    ask, reopen = (
        shlex.join(site.command("unicornctl", *words)) for words in (("is-running", "--quiet"), ("reopen",))
    )
    rules = ["daily", "rotate 14", "missingok", "notifempty", "compress", "delaycompress", "sharedscripts"]
    rules += [f"su {owner}" for owner in dict.fromkeys(map(_foreign_owner, files)) if owner][:1]
    body = "".join(f"    {rule}\n" for rule in rules)
    names = "\n".join(f'"{path}"' for path in files)
    return (
        f"# The logs of {site.file}, made by `unicornctl config logrotate`: /etc/logrotate.d/{site.name}\n"
        f"{names} {{\n{body}    postrotate\n        if {ask}; then {reopen}; fi\n    endscript\n}}\n"
    )


def _foreign_owner(path: str) -> str:
    """Return `USER GROUP` of a folder that is not root's: logrotate wants to be them there."""
    try:
        facts = os.stat(os.path.dirname(path))  # noqa: PTH116, PTH120 - texts
        return (
            f"{pwd.getpwuid(facts.st_uid).pw_name} {grp.getgrgid(facts.st_gid).gr_name}"
            if facts.st_uid
            else ""
        )
    except (OSError, KeyError):
        return ""
