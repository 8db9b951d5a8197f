"""The proxies: how each is configured in front of one address, and what its requests are to look like.

Each runs in the foreground, on a port of the loopback interface, with everything that it writes in one folder.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.process.test_nginx import free_port
from tests.support.certificates import Authority, authority_in
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SYSTEM = ":/usr/sbin:/usr/local/sbin"
PATIENCE = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a proxy runs.

    Attributes:
        folder: its own, empty.
        port: on which it listens.
        fleet: host and port of the fleet.
        pem: key and certificate in one file.
    """

    folder: Path
    port: int
    fleet: tuple[str, str]
    pem: Path

    @property
    def address(self) -> str:
        return ":".join(self.fleet)

    def write(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text)
        return str(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """A proxy.

    Attributes:
        flags: of unicornd, for what it speaks with us.
        command: writes its configuration and returns what to run.
        speaks_tls: whether its clients speak TLS with it.
        scheme: what the application sees.
    """

    flags: tuple[str, ...]
    command: Callable[[Place], list[str]]
    speaks_tls: bool = False
    scheme: str = "http"


@contextlib.contextmanager
def running(front: Front, folder: Path, fleet: tuple[str, str]) -> Iterator[tuple[int, Authority]]:
    """Run a proxy; give its port, and the authority of its certificate."""
    authority = authority_in(folder)
    own = authority.sign("front")
    pem = folder / "front.pem"
    pem.write_bytes(own.key.read_bytes() + own.certificate.read_bytes())
    place = Place(folder=folder, port=free_port(), fleet=fleet, pem=pem)
    program, *arguments = front.command(place)
    found = shutil.which(program, path=os.environ.get("PATH", "") + SYSTEM)
    if found is None:
        raise FileNotFoundError(f"{program} is not installed; `make proxies` installs it")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([found, *arguments], stdout=log, stderr=log, cwd=folder)
    try:
        eventually(lambda: process.poll() is not None or _listens(place.port), f"{program} listens")
        assert process.poll() is None, (folder / "log").read_text()
        yield place.port, authority
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _haproxy(*, mode: str, send: str, bind: str = "") -> Callable[[Place], list[str]]:
    def command(place: Place) -> list[str]:
        certificate = f" ssl crt {place.pem}" if bind else ""
        text = (
            "defaults\n timeout connect 10s\n timeout client 60s\n timeout server 60s\n"
            f"listen front\n mode {mode}\n bind 127.0.0.1:{place.port}{certificate}\n"
            f" server fleet {place.address} {send}\n"
        )
        return ["haproxy", "-db", "-f", place.write("haproxy.cfg", text)]

    return command


def _hitch(place: Place) -> list[str]:
    text = (
        f'frontend = "[127.0.0.1]:{place.port}"\nbackend = "[{place.fleet[0]}]:{place.fleet[1]}"\n'
        f'pem-file = "{place.pem}"\nwrite-proxy-v2 = on\nproxy-tlv = on\nworkers = 1\ndaemon = off\n'
        'user = "nobody"\n'
    )
    return ["hitch", f"--config={place.write('hitch.conf', text)}"]


def _stunnel(place: Place) -> list[str]:
    text = (
        f"foreground = yes\npid =\n[front]\naccept = 127.0.0.1:{place.port}\nconnect = {place.address}\n"
        f"cert = {place.pem}\nprotocol = proxy\n"
    )
    return ["stunnel4", place.write("stunnel.conf", text)]


def _varnish(version: int) -> Callable[[Place], list[str]]:
    def command(place: Place) -> list[str]:
        host, port = place.fleet
        text = (
            f'vcl 4.1;\nbackend fleet {{ .host = "{host}"; .port = "{port}"; .proxy_header = {version}; }}\n'
            "sub vcl_recv { return (pass); }\n"
        )
        path = place.write("front.vcl", text)
        return ["varnishd", "-F", "-j", "none", "-n", str(place.folder / "work"), "-f", path, "-a", f"127.0.0.1:{place.port}"]  # fmt: skip

    return command


def _nginx(place: Place) -> list[str]:
    folder = place.folder
    temporary = " ".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    text = (
        f"daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; user root; events {{}}\n"
        f"http {{ access_log off; {temporary} keepalive_requests 1000000;\n"
        f"server {{ listen 127.0.0.1:{place.port}; location / {{ include /etc/nginx/uwsgi_params; uwsgi_pass {place.address}; }} }} }}\n"
    )
    return ["nginx", "-p", str(folder), "-c", place.write("nginx.conf", text)]


def _apache(place: Place) -> list[str]:
    names = {
        "mpm_event": "mpm_event", "authz_core": "authz_core", "proxy": "proxy", "proxy_uwsgi": "proxy_uwsgi",
    }  # fmt: skip
    modules = "".join(
        f"LoadModule {key}_module /usr/lib/apache2/modules/mod_{name}.so\n" for key, name in names.items()
    )
    text = (
        f"ServerRoot {place.folder}\nPidFile {place.folder}/pid\nServerName front\nErrorLog {place.folder}/error.log\n"
        f"Listen 127.0.0.1:{place.port}\nUser www-data\nGroup www-data\n{modules}"
        f"KeepAlive On\nMaxKeepAliveRequests 0\nKeepAliveTimeout 60\nProxyPass / uwsgi://{place.address}/\n"
    )
    return ["apache2", "-X", "-f", place.write("apache.conf", text)]


def _lighttpd(place: Place) -> list[str]:
    host, port = place.fleet
    text = (
        f'server.port = {place.port}\nserver.bind = "127.0.0.1"\nserver.document-root = "{place.folder}"\n'
        'server.modules = ("mod_scgi")\nscgi.protocol = "uwsgi"\nserver.max-keep-alive-requests = 1000000\n'
        f'scgi.server = ("/" => (("host" => "{host}", "port" => {port}, "check-local" => "disable", "fix-root-scriptname" => "enable")))\n'
    )
    return ["lighttpd", "-D", "-f", place.write("lighttpd.conf", text)]


_V1, _V2 = ("--proxy-protocol", "v1"), ("--proxy-protocol", "v2")
_UWSGI = ("--protocol", "uwsgi")
FRONTS = {
    "haproxy v1": Front(flags=_V1, command=_haproxy(mode="http", send="send-proxy")),
    "haproxy v2": Front(flags=_V2, command=_haproxy(mode="http", send="send-proxy-v2")),
    "haproxy v2, crc32c": Front(
        flags=_V2, command=_haproxy(mode="http", send="send-proxy-v2 proxy-v2-options crc32c")
    ),
    "haproxy tcp v2": Front(flags=_V2, command=_haproxy(mode="tcp", send="send-proxy-v2")),
    "haproxy tls v2": Front(
        flags=_V2,
        command=_haproxy(mode="tcp", send="send-proxy-v2-ssl-cn", bind="ssl"),
        speaks_tls=True,
        scheme="https",
    ),
    "hitch v2": Front(flags=_V2, command=_hitch, speaks_tls=True, scheme="https"),
    "stunnel v1": Front(flags=_V1, command=_stunnel, speaks_tls=True),
    "varnish v1": Front(flags=_V1, command=_varnish(1)),
    "varnish v2": Front(flags=_V2, command=_varnish(2)),
    "nginx uwsgi": Front(flags=_UWSGI, command=_nginx),
    "apache uwsgi": Front(flags=_UWSGI, command=_apache),
    "lighttpd uwsgi": Front(flags=_UWSGI, command=_lighttpd),
}
