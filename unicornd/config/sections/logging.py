"""[logging]: what is written down, where, and how."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from unicornd.config.sections.section import RESTART, ROLLING, Section
from unicornd.config.texts import ImportText, PathText

GUNICORN_FORMAT = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'
Level = Literal["debug", "info", "warning", "error", "critical"]


class AccessSettings(Section):
    """[logging.access]: one line a request."""

    file: str | None = Field(
        default=None,
        description='The access log: a path, or "-" for standard output. Default: none.',
        json_schema_extra=ROLLING,
    )
    format: str = Field(
        default=GUNICORN_FORMAT,
        description="A line of the access log, with gunicorn's atoms.",
        json_schema_extra=ROLLING,
    )


Facility = Literal[
    "auth", "authpriv", "cron", "daemon", "ftp", "kern", "lpr", "mail", "news", "security", "syslog", "user", "uucp",
    "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
]  # fmt: skip


class SyslogSettings(Section):
    """[logging.syslog]: the logs sent to a syslog daemon, too."""

    enabled: bool = Field(
        default=False, description="Send the error log to syslog.", json_schema_extra=ROLLING
    )
    access: bool = Field(
        default=True, description="Send the access log to syslog, too.", json_schema_extra=ROLLING
    )
    address: str = Field(
        default="udp://localhost:514",
        description='Where the syslog daemon listens: "udp://HOST:PORT", "tcp://HOST:PORT", "unix://PATH" (with "#dgram" or "#stream" '
        "behind it for one of the two).",
        json_schema_extra=ROLLING,
    )
    prefix: str | None = Field(
        default=None,
        description="Program name: unicornd.PREFIX. Default: the name of the instance.",
        json_schema_extra=ROLLING,
    )
    facility: Facility = Field(
        default="user", description="The facility of the messages.", json_schema_extra=ROLLING
    )


class LoggingSettings(Section):
    """[logging]: the error log."""

    level: Level = Field(
        default="info", description="The least important lines that are written.", json_schema_extra=ROLLING
    )
    error: str = Field(
        default="-",
        description='The error log: a path, or "-" for standard error; for a daemon that has none, a file beside its control socket.',
        json_schema_extra=ROLLING,
    )
    format: Literal["console", "json"] = Field(
        default="console",
        description="Lines for people, or one JSON object a line.",
        json_schema_extra=ROLLING,
    )
    capture_output: bool = Field(
        default=False,
        description="Send what the application prints to the error log's file.",
        json_schema_extra=RESTART,
    )
    logger_class: ImportText | None = Field(
        default=None,
        description="A class with the interface of gunicorn's loggers, which then writes both logs.",
        json_schema_extra=ROLLING,
    )
    config_file: PathText | None = Field(
        default=None,
        description="Configuration of Python's logging as a file for fileConfig.",
        json_schema_extra=ROLLING,
    )
    config_json: PathText | None = Field(
        default=None,
        description="Configuration of Python's logging as a JSON file for dictConfig.",
        json_schema_extra=ROLLING,
    )
    config: dict[str, Any] = Field(
        default_factory=dict,
        description="Configuration of Python's logging as a table for dictConfig.",
        json_schema_extra=ROLLING,
    )
    config_object: ImportText | None = Field(
        default=None,
        description="Configuration of Python's logging as a dict of Python's, for one with classes in it.",
        examples=["./gunicorn.conf.py:logconfig_dict", "shop.logs:make_config()"],
        json_schema_extra=ROLLING,
    )
    access: AccessSettings = Field(default_factory=AccessSettings.untouched, description="The access log.")
    syslog: SyslogSettings = Field(default_factory=SyslogSettings.untouched, description="Syslog.")
