"""gunicorn's settings and ours: one row for each of the 120 of gunicorn 27.0.1, and for those that it had before.

A row says which of our keys a setting becomes and how its value is converted, or why there is none; and the flags that
gunicorn's command line has for it, which are unicornd's flags, too. Pure: values alone, nothing is read or run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from unicornd.config import conversions as to
from unicornd.config.conversions import kind_of
from unicornd.dataclass import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["BY_NAME", "ROWS", "Row", "kind_of", "row_of_key", "says_nothing"]

Fate = Literal["setting", "needless", "refused", "command"]
Form = Literal["text", "switch", "list", "optional"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One setting of gunicorn's.

    Attributes:
        name: gunicorn's.
        keys: our dotted keys, all of which get the converted value; a table's entries for a key that is a table.
        convert: a value of gunicorn's → ours; None says nothing; ValueError for what has no form here.
        flags: on the command line, short first.
        form: of the flag: `text` takes a value, `switch` none, `list` may be repeated, `optional` may have a value.
        stores: what a switch, or an optional value that is left out, says in gunicorn's terms.
        metavar: what the value is called in the help; about: a line for it.
        fate: `setting`; `needless`: the need is gone; `refused`: there is nothing like it yet; `command`: no setting.
        reason: why there is no key, and what to do instead.
        default: gunicorn's, for a setting that is refused: to say the default asks for nothing.
        is_retired: gunicorn 27 does not have it any more.
    """

    name: str
    keys: tuple[str, ...] = ()
    convert: Callable[[object], object] = to.plain
    flags: tuple[str, ...] = ()
    form: Form = "text"
    stores: object = True
    metavar: str = ""
    about: str = ""
    fate: Fate = "setting"
    reason: str = ""
    default: object = None
    is_retired: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Flag:
    """A row's flags as they are written below: `-w --workers N`."""

    flags: tuple[str, ...] = ()
    metavar: str = ""


def _flag(text: str) -> _Flag:
    words = text.split()
    flags = tuple(word for word in words if word.startswith("-"))
    return _Flag(flags=flags, metavar=" ".join(words[len(flags) :]))


def _row(name: str, keys: str, *, flag: str = "", about: str = "", convert: Callable[[object], object] = to.plain,
         form: Form = "text", stores: object = True) -> Row:  # fmt: skip
    said = _flag(flag)
    return Row(name=name, keys=tuple(keys.split()), convert=convert, flags=said.flags, metavar=said.metavar,
               form=form, stores=stores, about=about)  # fmt: skip


def _switch(name: str, key: str, *, flag: str, about: str) -> Row:
    return _row(name, key, flag=flag, about=about, convert=to.switch, form="switch")


def _number(name: str, keys: str, *, flag: str, about: str) -> Row:
    return _row(name, keys, flag=flag, about=about, convert=to.number)


def _hook(name: str) -> Row:
    return _row(name, f"hooks.{name}", convert=to.import_string)


def _needless(
    name: str, reason: str, *, flag: str = "", form: Form = "text", is_retired: bool = False
) -> Row:
    said = _flag(flag)
    return Row(name=name, flags=said.flags, metavar=said.metavar, form=form, fate="needless", reason=reason,
               about="", is_retired=is_retired)  # fmt: skip


def _http2(name: str, default: object, *, flag: str) -> Row:
    said = _flag(flag)
    return Row(name=name, flags=said.flags, metavar=said.metavar, fate="refused", default=default,
               reason="HTTP/2 is not available in this version; a proxy in front can speak it")  # fmt: skip


def _dirty(name: str, default: object, *, flag: str = "", form: Form = "text") -> Row:
    said = _flag(flag)
    return Row(name=name, flags=said.flags, metavar=said.metavar, form=form, fate="refused", default=default,
               reason="pools for tasks are not available in this version; run a task queue beside it")  # fmt: skip


def _command(name: str, flag: str, *, about: str, reason: str, form: Form = "switch") -> Row:
    said = _flag(flag)
    return Row(name=name, flags=said.flags, metavar=said.metavar, form=form, about=about, fate="command",
               reason=reason)  # fmt: skip


# fmt: off
ROWS: tuple[Row, ...] = (
    _command("config", "-c --config FILE", form="text", about="unicornd.toml, or a gunicorn.conf.py (also python:MODULE).",
             reason="a configuration file cannot name another one; say -c FILE on the command line"),
    _command("check_config", "--check-config", about="Say whether the configuration is right, and exit.",
             reason="say --check-config on the command line"),
    _command("print_config", "--print-config", about="Show the settings in effect and who said so, check, and exit.",
             reason="say --print-config on the command line, or `unicornctl config show --origin`"),

    _row("wsgi_app", "app.target"),
    _switch("preload_app", "app.preload", flag="--preload", about="Load the application once, before the workers are forked."),
    _row("chdir", "app.chdir", flag="--chdir DIR", convert=to.path, about="Working directory of the workers."),
    _row("raw_env", "app.env", flag="-e --env KEY=VALUE", form="list", convert=to.pairs, about="Environment variable of the workers."),
    _row("pythonpath", "app.pythonpath", flag="--pythonpath DIR[,DIR]", form="list", convert=to.comma_list, about="Put in front of the import path."),
    _row("root_path", "app.root_path", flag="--root-path PATH", about="Where a proxy has mounted the application."),
    _row("paste", "app.paste", flag="--paste --paster FILE", about="PasteDeploy file that makes the application."),
    _row("raw_paste_global_conf", "app.paste_global", flag="--paste-global KEY=VALUE", form="list", convert=to.pairs, about="Its global variable."),
    _switch("spew", "app.spew", flag="--spew", about="Print every line of Python that is executed."),

    _row("bind", "server.bind", flag="-b --bind ADDRESS", form="list", convert=to.texts, about="Address to listen on."),
    _number("backlog", "server.backlog", flag="--backlog N", about="Connections that the kernel queues."),
    _switch("reuse_port", "server.reuse_port", flag="--reuse-port", about="Let other fleets listen on the same TCP ports."),
    _row("protocol", "server.protocol", flag="--protocol NAME", convert=to.lower, about="http or uwsgi."),
    _row("uwsgi_allow_ips", "server.uwsgi_allow_ips", flag="--uwsgi-allow-from LIST", convert=to.comma_list, about="Who may speak uwsgi."),

    _row("workers", "workers.count", flag="-w --workers N", convert=to.worker_count, about="Worker processes; auto: 2 × processors + 1."),
    _row("worker_class", "workers.kind", flag="-k --worker-class KIND", convert=to.worker_kind, about="sync, threads, gevent, asgi, …, or a class."),
    _number("threads", "workers.threads", flag="--threads N", about="Requests that a worker runs at a time."),
    _number("worker_connections", "workers.connections", flag="--worker-connections N", about="Open connections of a worker."),
    _number("max_requests", "workers.max_requests", flag="--max-requests N", about="Replace a worker after N requests; 0: never."),
    _number("max_requests_jitter", "workers.max_requests_jitter", flag="--max-requests-jitter N", about="Up to so many requests more."),

    _number("timeout", "timeouts.request timeouts.heartbeat", flag="-t --timeout SECONDS", about="Longest request; longest silence of a worker."),
    _row("graceful_timeout", "timeouts.graceful", flag="--graceful-timeout SECONDS", convert=to.patience, about="Longest wait for requests in flight."),
    _number("keepalive", "timeouts.keepalive", flag="--keep-alive SECONDS", about="How long an idle connection is kept."),

    _switch("reload", "reload.on_change", flag="--reload", about="Reload when the application's files change."),
    _row("reload_engine", "reload.engine", flag="--reload-engine NAME", about="auto, poll or inotify."),
    _row("reload_extra_files", "reload.extra_files", flag="--reload-extra-file FILE", form="list", convert=to.texts, about="Watch this one, too."),

    _number("limit_request_line", "http.max_request_line", flag="--limit-request-line BYTES", about="Longest request line; 0: no limit."),
    _number("limit_request_fields", "http.max_headers", flag="--limit-request-fields N", about="Most header fields; 0: no limit."),
    _number("limit_request_field_size", "http.max_header_size", flag="--limit-request-field_size --limit-request-field-size BYTES",
            about="Longest header field; 0: no limit."),
    _row("tmp_upload_dir", "http.tmp_upload_dir", convert=to.path),
    _row("sendfile", "http.sendfile", flag="--no-sendfile", form="switch", convert=to.switch, stores=False, about="Do not use sendfile(2)."),
    _switch("permit_obsolete_folding", "http.permit_obsolete_folding", flag="--permit-obsolete-folding",
            about="Accept headers that go on in the next line."),
    _switch("strip_header_spaces", "http.strip_header_spaces", flag="--strip-header-spaces", about="Accept blanks in front of a header's colon."),
    _switch("permit_unconventional_http_method", "http.permit_unconventional_method", flag="--permit-unconventional-http-method",
            about="Accept unusual methods."),
    _switch("permit_unconventional_http_version", "http.permit_unconventional_version", flag="--permit-unconventional-http-version",
            about="Accept unusual HTTP versions."),
    _switch("casefold_http_method", "http.casefold_method", flag="--casefold-http-method", about="Make methods upper-case."),
    _row("header_map", "http.header_map", flag="--header-map WHAT", convert=to.lower, about="Headers with an underscore: drop, refuse, dangerous."),

    _row("secure_scheme_headers", "proxy.secure_scheme_headers", convert=to.header_table),
    _row("forwarded_allow_ips", "proxy.forwarded_allow_ips", flag="--forwarded-allow-ips LIST", convert=to.comma_list,
         about="Whose forwarding headers are believed."),
    _row("forwarder_headers", "proxy.forwarder_headers", flag="--forwarder-headers LIST", convert=to.comma_list,
         about="Headers with an underscore that they may send."),
    _row("proxy_protocol", "proxy.protocol", flag="--proxy-protocol [MODE]", form="optional", convert=to.proxy_mode, stores="auto",
         about="PROXY protocol: off, auto, v1, v2."),
    _row("proxy_allow_ips", "proxy.allow_ips", flag="--proxy-allow-from LIST", convert=to.comma_list, about="Who may send the PROXY header."),

    _row("certfile", "tls.certfile", flag="--certfile FILE", convert=to.path, about="Certificate; makes the server speak TLS."),
    _row("keyfile", "tls.keyfile", flag="--keyfile FILE", convert=to.path, about="Its private key."),
    _row("ca_certs", "tls.ca_certs", flag="--ca-certs FILE", convert=to.path, about="Authorities for clients' certificates."),
    _row("cert_reqs", "tls.cert_reqs", flag="--cert-reqs WHAT", convert=to.certificate_demand, about="Clients' certificates: none, optional, required."),
    _row("ciphers", "tls.ciphers", flag="--ciphers LIST", about="Cipher suites for TLS 1.2."),

    _row("asgi_loop", "asgi.loop", flag="--asgi-loop NAME", convert=to.lower, about="auto, asyncio or uvloop."),
    _row("asgi_lifespan", "asgi.lifespan", flag="--asgi-lifespan MODE", convert=to.lower, about="auto, on or off."),
    _row("asgi_disconnect_grace_period", "asgi.disconnect_grace_period", flag="--asgi-disconnect-grace-period SECONDS",
         convert=to.patience, about="For an application whose client has left."),
    _number("websocket_max_message_size", "asgi.websocket_max_message_size", flag="--websocket-max-message-size BYTES",
            about="Largest WebSocket message; 0: no limit."),

    _switch("daemon", "process.daemon", flag="-D --daemon", about="Go to the background."),
    _row("proc_name", "process.name", flag="-n --name NAME", convert=to.instance_name, about="Name of the instance."),
    _row("pidfile", "process.pidfile", flag="-p --pid FILE", convert=to.path, about="File for the process id."),
    _row("user", "process.user", flag="-u --user USER", convert=to.account, about="User of the workers."),
    _row("group", "process.group", flag="-g --group GROUP", convert=to.account, about="Group of the workers."),
    _switch("initgroups", "process.initgroups", flag="--initgroups", about="The user's other groups, too."),
    _row("umask", "process.umask", flag="-m --umask MODE", convert=to.mode, about="File mode creation mask, octal."),
    _switch("enable_stdio_inheritance", "process.inherit_stdio", flag="-R --enable-stdio-inheritance",
            about="A daemon keeps standard output and error."),

    _row("loglevel", "logging.level", flag="--log-level LEVEL", convert=to.lower, about="debug, info, warning, error, critical."),
    _row("errorlog", "logging.error", flag="--error-logfile --log-file FILE", convert=to.path, about="Error log; - is standard error."),
    _row("accesslog", "logging.access.file", flag="--access-logfile FILE", convert=to.path, about="Access log; - is standard output."),
    _row("access_log_format", "logging.access.format", flag="--access-logformat TEXT", about="Its lines."),
    _switch("capture_output", "logging.capture_output", flag="--capture-output", about="What the application prints goes to the error log."),
    _row("logger_class", "logging.logger_class", flag="--logger-class CLASS", convert=to.logger, about="A class that writes both logs."),
    _row("logconfig", "logging.config_file", flag="--log-config FILE", convert=to.path, about="Configuration of Python's logging (ini)."),
    _row("logconfig_dict", "logging.config", convert=to.table),
    _row("logconfig_json", "logging.config_json", flag="--log-config-json FILE", convert=to.path, about="The same as JSON."),
    _switch("syslog", "logging.syslog.enabled", flag="--log-syslog", about="Send the logs to syslog."),
    _row("disable_redirect_access_to_syslog", "logging.syslog.access", flag="--disable-redirect-access-to-syslog", form="switch",
         convert=to.inverted, about="But not the access log."),
    _row("syslog_addr", "logging.syslog.address", flag="--log-syslog-to ADDRESS", about="udp://HOST:PORT, tcp://…, unix://PATH."),
    _row("syslog_prefix", "logging.syslog.prefix", flag="--log-syslog-prefix NAME", about="Part of the program's name there."),
    _row("syslog_facility", "logging.syslog.facility", flag="--log-syslog-facility NAME", convert=to.lower, about="Facility of the messages."),

    _row("statsd_host", "metrics.statsd", flag="--statsd-host ADDRESS", about="Send metrics to HOST[:PORT] or unix:PATH."),
    _row("statsd_prefix", "metrics.statsd_prefix", flag="--statsd-prefix TEXT", about="Put in front of their names."),
    _row("dogstatsd_tags", "metrics.dogstatsd_tags", flag="--dogstatsd-tags LIST", about="Tags of every metric."),
    _switch("enable_backlog_metric", "metrics.backlog", flag="--enable-backlog-metric", about="Send the length of the accept queues."),

    _row("control_socket", "control.socket", flag="--control-socket PATH", convert=to.path, about="Where unicornctl finds this fleet."),
    _row("control_socket_mode", "control.mode", flag="--control-socket-mode MODE", convert=to.mode, about="Its permission bits, octal."),
    _row("control_socket_disable", "control.enabled", flag="--no-control-socket", form="switch", convert=to.inverted, about="No control socket."),

    *(_hook(name) for name in (
        "on_starting", "on_reload", "when_ready", "pre_fork", "post_fork", "post_worker_init", "worker_int", "worker_abort",
        "pre_exec", "pre_request", "post_request", "child_exit", "worker_exit", "nworkers_changed", "on_exit", "ssl_context",
    )),

    _needless("worker_tmp_dir", "heartbeats are memory that arbiter and workers share; there are no files", flag="--worker-tmp-dir DIR"),
    _needless("http_parser", "there is one parser, and it is strict and fast", flag="--http-parser NAME"),
    _needless("default_proc_name", "process.name names the instance; by default its folder or its application does"),
    _needless("ssl_version", "gunicorn has ignored it since version 21; tls.minimum_version says what is spoken", flag="--ssl-version NAME"),
    _needless("do_handshake_on_connect", "a handshake never keeps a worker waiting", flag="--do-handshake-on-connect", form="switch"),
    _needless("suppress_ragged_eofs", "a connection that ends without TLS's own end is always just an end", flag="--suppress-ragged-eofs",
              form="switch"),

    _http2("http_protocols", "h1", flag="--http-protocols LIST"),
    _http2("http2_cleartext", "off", flag="--http2-cleartext MODE"),
    _http2("http2_max_concurrent_streams", 100, flag="--http2-max-concurrent-streams N"),
    _http2("http2_initial_window_size", 65535, flag="--http2-initial-window-size BYTES"),
    _http2("http2_max_frame_size", 16384, flag="--http2-max-frame-size BYTES"),
    _http2("http2_max_header_list_size", 65536, flag="--http2-max-header-list-size BYTES"),
    _dirty("dirty_apps", (), flag="--dirty-app APP", form="list"),
    _dirty("dirty_workers", 0, flag="--dirty-workers N"),
    _dirty("dirty_timeout", 300, flag="--dirty-timeout SECONDS"),
    _dirty("dirty_threads", 1, flag="--dirty-threads N"),
    _dirty("dirty_graceful_timeout", 30, flag="--dirty-graceful-timeout SECONDS"),
    *(_dirty(name, None) for name in ("on_dirty_starting", "dirty_post_fork", "dirty_worker_init", "dirty_worker_exit")),

    _needless("debug", 'gone since gunicorn 19.2; reload.on_change and logging.level = "debug" do what it did', flag="--debug", form="switch",
              is_retired=True),
    Row(name="django_settings", keys=("app.env.DJANGO_SETTINGS_MODULE",), flags=("--settings",), metavar="MODULE", is_retired=True,
        about="DJANGO_SETTINGS_MODULE of the workers."),
    _needless("x_forwarded_for_header", "gone since gunicorn 19; REMOTE_ADDR is always the peer", is_retired=True),
    _needless("tolerate_dangerous_framing", "gone since gunicorn 23; requests with ambiguous framing are always refused", is_retired=True,
              flag="--tolerate-dangerous-framing", form="switch"),
)
# fmt: on

BY_NAME: Mapping[str, Row] = {row.name: row for row in ROWS}


def row_of_key(key: str) -> Row | None:
    """Return the row whose setting becomes a dotted key of ours, or an entry of a table that it becomes."""
    found = (row for row in ROWS for own in row.keys if key == own or key.startswith(f"{own}."))
    return next(found, None)


def says_nothing(row: Row, value: object) -> bool:
    """Whether the value of a refused setting is gunicorn's default."""
    said = to.number(value)
    is_empty = not said and isinstance(row.default, str | tuple)
    return said is None or is_empty or said in (row.default, [row.default])
