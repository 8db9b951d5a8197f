"""Every setting: its default, what a change of it needs, and which values are plainly right; see `config.tabulate`.

Made of the models by `make generate`.
"""

from __future__ import annotations

from unicornd.config.values import Address

# fmt: off
Form = tuple[object, ...]
"""A name in `shortcut.READERS`, and its limits."""
Entry = tuple[object, str, tuple[Form, ...]]
"""Default, `live` or `rolling` or `restart`, and the forms that a value may have."""
Table = dict[str, "Entry | Table"]

TABLE: Table = {
    "app": {
        "target": (None, "rolling", (("import",),)),
        "interface": ("auto", "rolling", (("choice", "auto", "wsgi", "asgi"),)),
        "preload": (False, "rolling", (("bool",),)),
        "chdir": (None, "rolling", (("path",),)),
        "env": ({}, "rolling", (("names",),)),
        "unset_env": ((), "rolling", (("texts",),)),
        "pythonpath": ((), "rolling", (("texts",),)),
        "search_first": ((), "rolling", (("texts",),)),
        "search_last": ((), "rolling", (("texts",),)),
        "root_path": ("", "rolling", (("text", "^(/[!-~]*[!-.0-~])?$"),)),
        "paste": (None, "rolling", (("text",),)),
        "paste_global": ({}, "rolling", (("names",),)),
        "warmup": ((), "rolling", (("texts",),)),
        "spew": (False, "rolling", (("bool",),)),
    },
    "server": {
        "bind": ((Address.parse("127.0.0.1:8000"),), "rolling", (("addresses",),)),
        "backlog": (2048, "restart", (("int", 1, 2147483647),)),
        "socket_mode": (438, "restart", (("mode",),)),
        "reuse_port": (False, "restart", (("bool",),)),
        "protocol": ("http", "rolling", (("choice", "http", "uwsgi"),)),
        "uwsgi_allow_ips": (("127.0.0.1", "::1"), "rolling", (("networks",),)),
    },
    "workers": {
        "count": (1, "live", (("int", 1, 1024), ("choice", "auto"))),
        "kind": (None, "rolling", (("kind",),)),
        "threads": (1, "rolling", (("int", 1, 512),)),
        "connections": (1000, "rolling", (("int", 1, None),)),
        "max_requests": (0, "rolling", (("int", 0, None),)),
        "max_requests_jitter": (0, "rolling", (("int", 0, None),)),
        "max_age": (0.0, "live", (("duration",),)),
        "max_memory": (0, "live", (("size",),)),
    },
    "timeouts": {
        "boot": (60.0, "live", (("duration",),)),
        "request": (30.0, "live", (("duration",),)),
        "heartbeat": (30.0, "live", (("duration",),)),
        "keepalive": (2.0, "rolling", (("duration",),)),
        "head": (10.0, "rolling", (("duration",),)),
        "body": (30.0, "rolling", (("duration",),)),
        "write": (60.0, "rolling", (("duration",),)),
        "drain": (0.0, "live", (("duration",),)),
        "graceful": (30.0, "live", (("duration",),)),
        "kill": (5.0, "live", (("duration", 0.1),)),
    },
    "reload": {
        "surge": (1, "live", (("int", 0, None), ("choice", "all"))),
        "max_failures": (3, "live", (("int", 1, None),)),
        "on_change": (False, "live", (("bool",),)),
        "engine": ("auto", "live", (("choice", "auto", "poll", "inotify"),)),
        "extra_files": ((), "live", (("texts",),)),
        "watch": ((), "live", (("texts",),)),
    },
    "http": {
        "max_request_line": (8000, "rolling", (("choice", 0), ("int", 64, None))),
        "max_headers": (100, "rolling", (("int", 0, None),)),
        "max_header_size": (8190, "rolling", (("choice", 0), ("int", 64, None))),
        "max_body_size": (1073741824, "rolling", (("size",),)),
        "body_memory": (262144, "rolling", (("size",),)),
        "tmp_upload_dir": (None, "rolling", (("path",),)),
        "response_buffer": (1048576, "rolling", (("size",),)),
        "response_spool": (1073741824, "rolling", (("size",),)),
        "sendfile": (True, "rolling", (("bool",),)),
        "header_map": ("drop", "rolling", (("choice", "drop", "refuse", "dangerous"),)),
        "permit_obsolete_folding": (False, "rolling", (("bool",),)),
        "strip_header_spaces": (False, "rolling", (("bool",),)),
        "permit_unconventional_method": (False, "rolling", (("bool",),)),
        "permit_unconventional_version": (False, "rolling", (("bool",),)),
        "casefold_method": (False, "rolling", (("bool",),)),
    },
    "proxy": {
        "forwarded_allow_ips": (("127.0.0.1", "::1"), "rolling", (("networks",),)),
        "secure_scheme_headers": ({"X-FORWARDED-PROTOCOL": "ssl", "X-FORWARDED-PROTO": "https", "X-FORWARDED-SSL": "on"}, "rolling", (("names",),)),
        "forwarder_headers": ((), "rolling", (("texts",),)),
        "protocol": ("off", "rolling", (("choice", "off", "auto", "v1", "v2"),)),
        "allow_ips": (("127.0.0.1", "::1"), "rolling", (("networks",),)),
    },
    "tls": {
        "certfile": (None, "rolling", (("path",),)),
        "keyfile": (None, "rolling", (("path",),)),
        "ca_certs": (None, "rolling", (("path",),)),
        "cert_reqs": ("none", "rolling", (("choice", "none", "optional", "required"),)),
        "minimum_version": ("TLSv1.2", "rolling", (("choice", "TLSv1.2", "TLSv1.3"),)),
        "ciphers": (None, "rolling", (("text",),)),
    },
    "asgi": {
        "loop": ("auto", "rolling", (("choice", "auto", "asyncio", "uvloop"),)),
        "lifespan": ("auto", "rolling", (("choice", "auto", "on", "off"),)),
        "disconnect_grace_period": (3.0, "rolling", (("duration",),)),
        "websocket_max_message_size": (16777216, "rolling", (("size",),)),
    },
    "process": {
        "name": (None, "restart", (("text", "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"),)),
        "daemon": (False, "restart", (("bool",),)),
        "pidfile": (None, "restart", (("path",),)),
        "user": (None, "restart", (("text",),)),
        "group": (None, "restart", (("text",),)),
        "initgroups": (False, "restart", (("bool",),)),
        "umask": (None, "restart", (("mode",),)),
        "inherit_stdio": (False, "restart", (("bool",),)),
    },
    "logging": {
        "level": ("info", "rolling", (("choice", "debug", "info", "warning", "error", "critical"),)),
        "error": ("-", "rolling", (("text",),)),
        "format": ("console", "rolling", (("choice", "console", "json"),)),
        "capture_output": (False, "restart", (("bool",),)),
        "logger_class": (None, "rolling", (("import",),)),
        "config_file": (None, "rolling", (("path",),)),
        "config_json": (None, "rolling", (("path",),)),
        "config": ({}, "rolling", ()),
        "config_object": (None, "rolling", (("import",),)),
        "access": {
            "file": (None, "rolling", (("text",),)),
            "format": ('%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"', "rolling", (("text",),)),
        },
        "syslog": {
            "enabled": (False, "rolling", (("bool",),)),
            "access": (True, "rolling", (("bool",),)),
            "address": ("udp://localhost:514", "rolling", (("text",),)),
            "prefix": (None, "rolling", (("text",),)),
            "facility": ("user", "rolling", (("choice", "auth", "authpriv", "cron", "daemon", "ftp", "kern", "lpr", "mail", "news", "security", "syslog", "user", "uucp", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"),)),
        },
    },
    "metrics": {
        "statsd": (None, "rolling", (("statsd",),)),
        "statsd_prefix": ("", "rolling", (("text",),)),
        "dogstatsd_tags": ("", "rolling", (("text",),)),
        "backlog": (False, "rolling", (("bool",),)),
    },
    "control": {
        "enabled": (True, "restart", (("bool",),)),
        "socket": (None, "restart", (("text",),)),
        "mode": (384, "restart", (("mode",),)),
        "allow_users": ((), "restart", (("texts",),)),
        "allow_groups": ((), "restart", (("texts",),)),
        "view_users": ((), "restart", (("texts",),)),
        "view_groups": ((), "restart", (("texts",),)),
    },
    "admin": {
        "bind": (None, "restart", (("address",),)),
        "hosts": ((), "restart", (("texts",),)),
    },
    "hooks": {
        "on_starting": (None, "rolling", (("import",),)),
        "when_ready": (None, "rolling", (("import",),)),
        "on_reload": (None, "rolling", (("import",),)),
        "pre_fork": (None, "rolling", (("import",),)),
        "post_fork": (None, "rolling", (("import",),)),
        "post_worker_init": (None, "rolling", (("import",),)),
        "worker_int": (None, "rolling", (("import",),)),
        "worker_abort": (None, "rolling", (("import",),)),
        "pre_request": (None, "rolling", (("import",),)),
        "post_request": (None, "rolling", (("import",),)),
        "child_exit": (None, "rolling", (("import",),)),
        "worker_exit": (None, "rolling", (("import",),)),
        "nworkers_changed": (None, "rolling", (("import",),)),
        "on_exit": (None, "rolling", (("import",),)),
        "pre_exec": (None, "rolling", (("import",),)),
        "ssl_context": (None, "rolling", (("import",),)),
    },
}
