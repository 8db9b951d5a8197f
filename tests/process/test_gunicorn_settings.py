"""gunicorn's settings in a gunicorn.conf.py, and what a client or a look at the system sees of each.

`OBSERVED` says for every setting that is one here which test observes its effect: below, or in another file.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import json
import os
import pwd
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.certificates import authority_in, client_context
from tests.support.fleet import Fleet, command, fleet_in
from tests.support.places import open_folder, through_open_places
from tests.support.waiting import eventually
from unicornd.config.gunicorn import ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator

SITE = """\
import json, os, sys

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/file":
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](open(__file__, "rb"))
    seen = {key: value for key, value in environ.items() if isinstance(value, str)}
    seen |= {"body": len(environ["wsgi.input"].read()), "folder": os.getcwd(), "path": sys.path,
             "env": dict(os.environ), "pid": os.getpid()}
    body = json.dumps(seen).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
"""
CONFIG = 'wsgi_app = "./site_app.py:application"\nbind = "127.0.0.1:0"\n'

HOOKS = "test_hooks.test_every_hook_is_called_in_its_process_at_its_moment"
ATOMS = "test_logs.test_the_access_log_has_a_line_with_every_atom"
SYSLOG = "test_logs.test_both_logs_go_to_syslog_under_the_programs_names"
STATSD = "test_statsd.test_requests_workers_and_queues_are_sent_with_gunicorns_names"
SWITCHES = "test_wire.test_a_switch_changes_what_is_accepted"
TOLD = "test_python_config.test_a_fleet_is_served_as_the_file_says"
CLIENT = "test_a_client_needs_a_certificate_and_the_cipher"
LOOP = "test_an_asgi_application_runs_as_the_file_says"

OBSERVED = {
    "wsgi_app": TOLD, "bind": TOLD, "workers": "test_hooks.test_a_changed_count_is_told_on_reload",
    "preload_app": "test_every_kind.test_a_mold_forks_one_worker_after_the_other",
    "chdir": "test_workers_live_where_and_with_what_the_file_says",
    "raw_env": "test_workers_live_where_and_with_what_the_file_says",
    "pythonpath": "test_workers_live_where_and_with_what_the_file_says",
    "root_path": "test_wire.test_a_standing_mount", "spew": "test_hooks.test_spew_prints_the_lines_that_are_executed",
    "paste": "test_paste.test_the_main_application_is_served",
    "raw_paste_global_conf": "test_paste.test_another_one_is_served_by_its_name_with_global_variables",
    "backlog": "test_the_kernel_queues_as_many_connections",
    "reuse_port": "test_reuse_port.test_two_fleets_on_one_port_both_answer_and_one_goes_on_alone",
    "protocol": "test_wire.test_uwsgi_behind_a_real_nginx",
    "uwsgi_allow_ips": "test_wire.test_uwsgi_from_a_stranger_and_nonsense_are_refused",
    "worker_class": "test_every_kind.test_the_access_log_has_a_line_for_each_request",
    "threads": "test_so_many_requests_run_at_a_time", "worker_connections": "test_a_worker_keeps_so_many_connections",
    "max_requests": "test_a_worker_is_replaced_after_so_many_requests",
    "max_requests_jitter": "test_a_worker_is_replaced_after_so_many_requests",
    "timeout": "test_request_timeout.test_in_threads_only_the_stuck_request_is_lost",
    "graceful_timeout": "test_a_request_may_take_so_long_when_its_worker_leaves",
    "keepalive": "test_a_connection_is_kept_or_not",
    "reload": "test_watching.test_a_changed_file_of_the_application_is_loaded",
    "reload_engine": "test_watching.test_a_changed_file_of_the_application_is_loaded",
    "reload_extra_files": "test_watching.test_extra_files_and_patterns_count",
    "limit_request_line": "test_a_head_has_the_limits_of_the_file",
    "limit_request_fields": "test_a_head_has_the_limits_of_the_file",
    "limit_request_field_size": "test_a_head_has_the_limits_of_the_file",
    "tmp_upload_dir": "test_a_large_body_is_kept_in_the_folder", "sendfile": "test_a_file_is_read_or_sent_by_the_kernel",
    "permit_obsolete_folding": SWITCHES, "strip_header_spaces": SWITCHES,
    "permit_unconventional_http_method": SWITCHES, "permit_unconventional_http_version": SWITCHES,
    "casefold_http_method": SWITCHES, "header_map": SWITCHES,
    "secure_scheme_headers": "test_a_header_of_the_operators_own_says_https",
    "forwarded_allow_ips": "test_wire.test_a_stranger_is_not_believed",
    "forwarder_headers": "test_wire.test_the_variables_and_flags_of_gunicorn_say_whom_to_trust",
    "proxy_protocol": "test_wire.test_the_client_of_a_proxy_is_known_by_its_header",
    "proxy_allow_ips": "test_wire.test_a_peer_that_may_not_send_a_header_is_refused",
    "certfile": CLIENT, "keyfile": CLIENT, "ca_certs": CLIENT, "cert_reqs": CLIENT, "ciphers": CLIENT,
    "asgi_loop": LOOP, "asgi_lifespan": LOOP,
    "asgi_disconnect_grace_period": "test_a_request_goes_on_so_long_without_its_client",
    "websocket_max_message_size": "test_a_websocket_message_is_not_larger",
    "daemon": "test_shell_start.test_a_daemon_serves_when_the_command_returns",
    "proc_name": "test_hooks.test_processes_are_named",
    "pidfile": "test_shell_start.test_a_daemon_serves_when_the_command_returns",
    "user": "test_shell_start.test_workers_drop_their_privileges_and_unix_sockets_are_theirs",
    "group": "test_the_workers_have_the_groups", "initgroups": "test_the_workers_have_the_groups",
    "umask": "test_a_umask_counts_for_unix_sockets_too",
    "enable_stdio_inheritance": "test_logs.test_a_daemon_that_inherits_its_streams_writes_to_them",
    "loglevel": "test_the_error_log_has_lines_from_its_level_on",
    "errorlog": "test_logs.test_captured_output_goes_to_the_error_log_and_follows_it_when_it_is_reopened",
    "accesslog": ATOMS, "access_log_format": ATOMS,
    "capture_output": "test_logs.test_captured_output_goes_to_the_error_log_and_follows_it_when_it_is_reopened",
    "logger_class": "test_logging_config.test_a_logger_class_writes_both_logs_and_its_exceptions_harm_no_request",
    "logconfig": "test_logging_config.test_a_configuration_written_for_gunicorn_gets_both_logs",
    "logconfig_json": "test_logging_config.test_a_configuration_written_for_gunicorn_gets_both_logs",
    "logconfig_dict": "test_logging_config.test_a_configuration_written_for_gunicorn_gets_both_logs",
    "syslog": SYSLOG, "syslog_addr": SYSLOG, "syslog_prefix": SYSLOG, "syslog_facility": SYSLOG,
    "disable_redirect_access_to_syslog": "test_logs.test_a_unix_socket_of_either_kind_takes_the_lines",
    "statsd_host": STATSD, "statsd_prefix": STATSD, "enable_backlog_metric": STATSD,
    "dogstatsd_tags": "test_statsd.test_a_unix_socket_gets_tagged_metrics_and_those_of_log_calls",
    "control_socket": "test_the_control_socket_is_where_and_as_it_is_said",
    "control_socket_mode": "test_the_control_socket_is_where_and_as_it_is_said",
    "control_socket_disable": "test_without_a_control_socket_there_is_none",
    **dict.fromkeys(
        ("on_starting", "on_reload", "when_ready", "pre_fork", "post_fork", "post_worker_init", "worker_int",
         "worker_abort", "pre_request", "post_request", "child_exit", "worker_exit", "nworkers_changed", "on_exit"),
        HOOKS,
    ),
    "pre_exec": "test_upgrade.test_the_hook_pre_exec_is_called_in_the_new_process",
    "ssl_context": "test_tls_fleet.test_the_hook_is_called_once_a_worker_and_its_context_is_spoken",
}  # fmt: skip


def test_the_effect_of_each_setting_is_observed_by_a_test_that_is_there() -> None:
    assert sorted(OBSERVED) == sorted(
        row.name for row in ROWS if row.fate == "setting" and not row.is_retired
    )
    folder = Path(__file__).parent
    for place in set(OBSERVED.values()):
        file, _, name = place.rpartition(".")
        text = (folder / f"{file or Path(__file__).stem}.py").read_text()
        assert name in {node.name for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}, (
            place
        )


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with fleet_in(tmp_path) as made:
        made.write("site_app.py", SITE)
        (made.folder / "unicornd.toml").unlink()
        yield made


@pytest.fixture
def open_fleet() -> Iterator[Fleet]:
    """A fleet whose folder every user can enter."""
    with open_folder() as folder, fleet_in(folder) as made:
        made.write("site_app.py", SITE)
        (made.folder / "unicornd.toml").unlink()
        made.through = through_open_places(folder)
        yield made


def start(fleet: Fleet, text: str, **environ: str) -> None:
    fleet.write("gunicorn.conf.py", CONFIG + text)
    fleet.start(**environ)


def connect(fleet: Fleet) -> socket.socket:
    host, port = fleet.addresses()[0].split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def talk(fleet: Fleet, sent: bytes) -> bytes:
    """Send bytes and return what comes until the connection ends."""
    with connect(fleet) as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while data := client.recv(65536):
                received += data
    return received


def asked(fleet: Fleet, fields: str = "") -> dict[str, Any]:
    head = f"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}\r\n"
    found: dict[str, Any] = json.loads(talk(fleet, head.encode()).partition(b"\r\n\r\n")[2])
    return found


def test_workers_live_where_and_with_what_the_file_says(fleet: Fleet) -> None:
    for folder in ("work", "library"):
        (fleet.folder / folder).mkdir()
    fleet.write("work/site_app.py", SITE)
    start(fleet, 'chdir = "work"\nraw_env = ["COLOUR=red", "SIZE=a=b"]\npythonpath = "/nowhere,library"\n')
    found = asked(fleet)
    assert found["folder"] == str(fleet.folder / "work")
    assert (found["env"]["COLOUR"], found["env"]["SIZE"]) == ("red", "a=b")
    assert found["path"][:3] == ["/nowhere", f"{fleet.folder}/work/library", f"{fleet.folder}/work"]


def test_the_kernel_queues_as_many_connections(fleet: Fleet) -> None:
    start(fleet, "backlog = 7\n")
    port = fleet.addresses()[0].rpartition(":")[2]
    told = subprocess.run(["ss", "-Hltn", f"sport = :{port}"], capture_output=True, text=True, check=True)
    assert told.stdout.split()[2] == "7"


def test_a_umask_counts_for_unix_sockets_too(fleet: Fleet) -> None:
    start(fleet, 'bind = ["127.0.0.1:0", "unix:web.sock"]\numask = 0o027\n')
    assert (fleet.folder / "web.sock").stat().st_mode & 0o777 == 0o640
    status = Path(f"/proc/{fleet.pids()[1]}/status").read_text()
    assert re.search(r"^Umask:\s+0027$", status, re.MULTILINE)


GATED = """\
import pathlib, time
GATE = pathlib.Path(__file__).parent / "gate"
IN = pathlib.Path(__file__).parent / "in"
def note(letter):
    with IN.open("a") as file:
        file.write(letter)
def application(environ, start_response):
    if environ["PATH_INFO"] == "/wait":
        note("x")
        while not GATE.exists():
            time.sleep(0.01)
        note("y")
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""
WAIT = b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n"


def are_in(fleet: Fleet) -> int:
    path = fleet.folder / "in"
    return path.read_text().count("x") if path.exists() else 0


def test_so_many_requests_run_at_a_time(fleet: Fleet) -> None:
    fleet.write("site_app.py", GATED)
    start(fleet, "threads = 3\n")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(fleet)) for _ in range(5)]
        for client in clients:
            client.sendall(WAIT)
        eventually(lambda: are_in(fleet) == 3, "three are in")
        fleet.open_gate()
        assert all(b"200 OK" in client.recv(4096) for client in clients)
    text = (fleet.folder / "in").read_text()
    assert (text[:4], text.count("x")) == ("xxxy", 5)


def test_a_worker_keeps_so_many_connections(fleet: Fleet) -> None:
    start(fleet, "worker_connections = 2\nthreads = 2\nkeepalive = 60\n")
    request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    with contextlib.ExitStack() as stack:
        first, second, third = (stack.enter_context(connect(fleet)) for _ in range(3))
        for client in (first, second):
            client.sendall(request)
            assert b"200 OK" in client.recv(65536)
        third.sendall(request)
        eventually(lambda: fleet.status()["listeners"][0]["queue"] == 1, "the third waits in the kernel")
        first.close()
        assert b"200 OK" in third.recv(65536)


@pytest.mark.parametrize(("jitter", "is_replaced"), [(0, True), (10**9, False)])
def test_a_worker_is_replaced_after_so_many_requests(fleet: Fleet, jitter: int, *, is_replaced: bool) -> None:
    start(fleet, f"max_requests = 3\nmax_requests_jitter = {jitter}\n")
    pid = fleet.pids()[1]
    assert {asked(fleet)["pid"] for _ in range(3)} == {pid}
    if is_replaced:
        fleet.await_log("max_requests reached after 3 requests")
        eventually(lambda: asked(fleet)["pid"] != pid, "another worker answers")
    else:
        assert {asked(fleet)["pid"] for _ in range(10)} == {pid}


def test_a_request_may_take_so_long_when_its_worker_leaves(fleet: Fleet) -> None:
    fleet.write("site_app.py", GATED)
    start(fleet, "graceful_timeout = 1\n")
    with connect(fleet) as client:
        client.sendall(WAIT)
        eventually(lambda: are_in(fleet) == 1, "it is in")
        assert fleet.end() == 0  # the gate stays shut
        assert b"200" not in client.recv(65536)


@pytest.mark.parametrize(("seconds", "is_kept"), [(0, False), (60, True)])
def test_a_connection_is_kept_or_not(fleet: Fleet, seconds: int, *, is_kept: bool) -> None:
    start(fleet, f"threads = 2\nkeepalive = {seconds}\n")
    request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    with connect(fleet) as client:
        client.sendall(request)
        head = client.recv(65536).partition(b"\r\n\r\n")[0].lower()
        assert (b"connection: close" in head) is not is_kept
        if is_kept:
            client.sendall(request)
            assert b"200 OK" in client.recv(65536)


LONG = "x" * 90
HEADS = [
    (f"GET /{LONG} HTTP/1.1\r\nHost: x\r\n\r\n", "414"),
    ("GET / HTTP/1.1\r\nHost: x\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n", "431"),
    (f"GET / HTTP/1.1\r\nHost: x\r\nA: {LONG}\r\n\r\n", "431"),
]


@pytest.mark.parametrize("kind", ["sync", "gevent", "asgi"])
def test_a_head_has_the_limits_of_the_file(fleet: Fleet, kind: str) -> None:
    limits = "limit_request_line = 80\nlimit_request_fields = 3\nlimit_request_field_size = 80\n"
    fleet.write("asgi_app.py", ASGI)
    app = 'wsgi_app = "./asgi_app.py:application"\n' if kind == "asgi" else ""
    start(fleet, f'{limits}worker_class = "{kind}"\n{app}')
    for head, status in HEADS:
        assert talk(fleet, head.encode())[9:12].decode() == status
        shorter = head.replace(LONG, LONG[:40]).replace("C: 3\r\n", "")
        assert talk(fleet, shorter.encode())[9:12] == b"200"


def test_a_large_body_is_kept_in_the_folder(fleet: Fleet) -> None:
    folder = fleet.folder / "uploads"
    folder.mkdir()
    start(fleet, 'tmp_upload_dir = "uploads"\n')
    files = Path(f"/proc/{fleet.pids()[1]}/fd")
    head = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1000000\r\n\r\n"

    def is_there() -> bool:
        with contextlib.suppress(OSError):
            return any(str(link.readlink()).startswith(f"{folder}/") for link in files.iterdir())
        return False

    with connect(fleet) as client:
        client.sendall(head + b"x" * 900_000)
        eventually(is_there, "the worker has a file there")
        client.sendall(b"x" * 100_000)
        assert b'"body": 1000000' in client.makefile("rb").read()


@pytest.mark.parametrize("value", [True, False])
def test_a_file_is_read_or_sent_by_the_kernel(fleet: Fleet, *, value: bool) -> None:
    start(fleet, f"sendfile = {value}\n")
    head, _, body = talk(fleet, b"GET /file HTTP/1.0\r\n\r\n").partition(b"\r\n\r\n")
    assert body == SITE.encode()
    assert (b"Content-Length: " in head) is value  # nobody knows the length of what is read


def test_a_header_of_the_operators_own_says_https(fleet: Fleet) -> None:
    start(fleet, 'secure_scheme_headers = {"x-my-scheme": "tls"}\n')
    assert asked(fleet, "X-My-Scheme: tls\r\n")["wsgi.url_scheme"] == "https"
    assert asked(fleet, "X-Forwarded-Proto: https\r\n")["wsgi.url_scheme"] == "http"


def test_a_client_needs_a_certificate_and_the_cipher(fleet: Fleet) -> None:
    authority = authority_in(fleet.folder)
    server, own = authority.sign("server"), authority.sign("client", "/CN=client")
    cipher = "ECDHE-ECDSA-AES256-GCM-SHA384"
    start(
        fleet,
        f'certfile = "{server.certificate}"\nkeyfile = "{server.key}"\nca_certs = "{authority.pair.certificate}"\n'
        f'import ssl\ncert_reqs = ssl.CERT_REQUIRED\nciphers = "{cipher}"\n',
    )
    context = client_context(authority, own)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with context.wrap_socket(connect(fleet), server_hostname="localhost") as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (client.cipher() or ("",))[0] == cipher
        assert b'"wsgi.url_scheme": "https"' in client.makefile("rb").read()
    stranger = client_context(authority)
    stranger.maximum_version = ssl.TLSVersion.TLSv1_2
    with connect(fleet) as plain, pytest.raises((ssl.SSLError, ConnectionError)):
        stranger.wrap_socket(plain, server_hostname="localhost").recv(1)


ASGI = """\
import asyncio, json, pathlib, time
HERE = pathlib.Path(__file__).parent
SEEN = []

async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        SEEN.append("lifespan")
        raise NotImplementedError
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": "ok"})
        return
    if scope["path"] == "/long":
        (HERE / "in").write_text("x")
        while (await receive())["type"] != "http.disconnect":
            pass
        left = time.monotonic()
        try:
            await asyncio.sleep(3600)
        finally:
            (HERE / "cancelled").write_text(str(time.monotonic() - left))
    loop = type(asyncio.get_running_loop()).__module__.partition(".")[0]
    body = json.dumps({"loop": loop, "seen": SEEN}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]})
    await send({"type": "http.response.body", "body": body})
"""
ASGI_CONFIG = 'wsgi_app = "./asgi_app.py:application"\nworker_class = "asgi"\n'


@pytest.mark.parametrize(
    ("loop", "module"), [("asyncio", asyncio.__name__), ("uvloop", "uvloop"), ("auto", "uvloop")]
)
def test_an_asgi_application_runs_as_the_file_says(fleet: Fleet, loop: str, module: str) -> None:
    fleet.write("asgi_app.py", ASGI)
    lifespan = "off" if loop == "asyncio" else "auto"
    start(fleet, f'{ASGI_CONFIG}asgi_loop = "{loop}"\nasgi_lifespan = "{lifespan}"\n')
    found = json.loads(fleet.get())
    assert found == {"loop": module, "seen": [] if lifespan == "off" else ["lifespan"]}


def test_a_request_goes_on_so_long_without_its_client(fleet: Fleet) -> None:
    fleet.write("asgi_app.py", ASGI)
    start(fleet, f"{ASGI_CONFIG}asgi_disconnect_grace_period = 5\n")
    with connect(fleet) as client:
        client.sendall(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually((fleet.folder / "in").exists, "it is in")
    eventually((fleet.folder / "cancelled").exists, "it was cancelled")
    eventually((fleet.folder / "cancelled").read_text, "it has said when")
    assert float((fleet.folder / "cancelled").read_text()) > 4


def test_a_websocket_message_is_not_larger(fleet: Fleet) -> None:
    fleet.write("asgi_app.py", ASGI)
    start(fleet, f"{ASGI_CONFIG}websocket_max_message_size = 100\n")
    hello = (
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    with connect(fleet) as client:
        stream = client.makefile("rb")
        client.sendall(hello)
        assert b"101" in stream.readline()
        while stream.readline() != b"\r\n":
            pass
        client.sendall(text_frame(100))
        assert stream.read(4) == b"\x81\x02ok"
        client.sendall(text_frame(101))
        opcode, size = stream.read(2)
        assert opcode == 0x88, "a close frame (RFC 6455, section 5.5.1)"
        assert struct.unpack("!H", stream.read(size)[:2]) == (1009,)


def text_frame(size: int) -> bytes:
    """Return a masked frame (RFC 6455, section 5.2); the mask is zero, the length below 126."""
    return bytes([0x81, 0x80 | size]) + bytes(4) + b"x" * size


@pytest.mark.parametrize(
    ("level", "has_ready", "has_debug"),
    [("warning", False, False), ("INFO", True, False), ("debug", True, True)],
)
def test_the_error_log_has_lines_from_its_level_on(
    fleet: Fleet, level: str, *, has_ready: bool, has_debug: bool
) -> None:
    fleet.write(
        "site_app.py",
        "import logging\nlog = logging.getLogger('gunicorn.error')\nlog.debug('a debug line')\nlog.warning('a warning')\n"
        + SITE,
    )
    start(fleet, f'loglevel = "{level}"\n')
    fleet.await_log("a warning")
    assert fleet.end() == 0
    assert ("the fleet is ready" in fleet.log) is has_ready
    assert ("a debug line" in fleet.log) is has_debug


def test_the_control_socket_is_where_and_as_it_is_said(fleet: Fleet) -> None:
    fleet.write("gunicorn.conf.py", f'{CONFIG}control_socket = "control.sock"\ncontrol_socket_mode = 0o660\n')
    environ = {**fleet.environ()}
    del environ["UNICORND_CONTROL__SOCKET"]
    with (fleet.folder / "log").open("ab") as log:
        fleet.process = subprocess.Popen(command(()), cwd=fleet.folder, env=environ, stdout=log, stderr=log)
    fleet.await_state("ready")
    assert (fleet.folder / "control.sock").stat().st_mode & 0o777 == 0o660


def test_without_a_control_socket_there_is_none(fleet: Fleet) -> None:
    fleet.write("gunicorn.conf.py", f"{CONFIG}control_socket_disable = True\n")
    process = fleet.spawn()
    fleet.await_log("the fleet is ready")
    assert not (fleet.folder / "control.sock").exists()
    told = subprocess.run(["ss", "-Hlxp"], capture_output=True, text=True, check=True).stdout
    assert f"pid={process.pid}," not in told


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
@pytest.mark.parametrize("has_groups", [True, False])
def test_the_workers_have_the_groups(open_fleet: Fleet, *, has_groups: bool) -> None:
    """In a mount namespace of its own, where `nobody` is in another group, too."""
    fleet, nobody = open_fleet, pwd.getpwnam("nobody")
    own, other = 4000001, 4000002
    group = fleet.write("group", f"{Path('/etc/group').read_text()}own:x:{own}:\nother:x:{other}:nobody\n")
    text = f'{CONFIG}user = "nobody"\ngroup = "own"\ninitgroups = {has_groups}\n'
    fleet.write("gunicorn.conf.py", text)
    script = 'mount --bind "$0" /etc/group && exec "$@"'
    unshare = shutil.which("unshare")
    assert unshare
    with (fleet.folder / "log").open("ab") as log:
        fleet.process = subprocess.Popen(
            [*fleet.through, unshare, "--mount", "sh", "-c", script, str(group), *command(())],
            cwd=fleet.folder, env=fleet.environ(), stdout=log, stderr=log,
        )  # fmt: skip
    fleet.await_state("ready")
    status = Path(f"/proc/{fleet.pids()[1]}/status").read_text()
    assert re.search(rf"^Uid:\s+{nobody.pw_uid}\s", status, re.MULTILINE)
    assert re.search(rf"^Gid:\s+{own}\s", status, re.MULTILINE)
    found = re.search(r"^Groups:\s*(.*)$", status, re.MULTILINE)
    assert found
    assert set(map(int, found[1].split())) == ({own, other} if has_groups else {own})
    assert fleet.end(signal.SIGTERM) == 0
