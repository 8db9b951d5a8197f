"""The operator's configuration of Python's logging: a table or a dict, a JSON file, or an ini file, in that order.

Applied in every process after our own logs are open. What it does not name keeps going where it went, once; what it gives
to `unicornd` and `unicornd.access`, or to `gunicorn.error` and `gunicorn.access`, goes where it says instead. Loggers of
others are not disabled.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from unicornd.errors import ConfigError
from unicornd.observe import logs

if TYPE_CHECKING:
    import configparser
    from pathlib import Path

    from unicornd.config.sections.logging import LoggingSettings

OWN_NAMES = {**logs.GUNICORN_NAMES, logs.ERROR_LOG: logs.ERROR_LOG, logs.ACCESS_LOG: logs.ACCESS_LOG}
_DEFAULTS: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "generic": {
            "format": "%(asctime)s [%(process)d] [%(levelname)s] %(message)s",
            "datefmt": "[%Y-%m-%d %H:%M:%S %z]",
        }
    },
    "handlers": {
        "console": {
            "class": "logging.StreamHandler", "formatter": "generic", "stream": "ext://sys.stdout",
        },
        "error_console": {
            "class": "logging.StreamHandler", "formatter": "generic", "stream": "ext://sys.stderr",
        },
    },
}  # fmt: skip
"""What files written for gunicorn refer to without having it."""


def has_own(settings: LoggingSettings) -> bool:
    """Whether the operator configures Python's logging."""
    return bool(settings.config or settings.config_object or settings.config_json or settings.config_file)


def read(settings: LoggingSettings) -> str:
    """Return the text of the operator's file, if it is a file that counts; a worker reads it before it is somebody else.

    Raises:
        ConfigError: it cannot be read.
    """
    if settings.config or settings.config_object is not None:
        return ""
    for key, path in (("config_json", settings.config_json), ("config_file", settings.config_file)):
        if path is not None:
            try:
                return path.read_text(encoding="utf-8")
            except OSError as error:
                raise ConfigError(
                    f"logging.{key}: cannot read {path}: {error.strerror}", hint="check the path"
                ) from error
            except ValueError as error:
                raise ConfigError(
                    f"logging.{key}: {path} is no text: {error}", hint="correct the file"
                ) from error
    return ""


def apply(settings: LoggingSettings, *, text: str, made: object = None) -> None:
    """Configure Python's logging as the operator says.

    Args:
        settings: [logging].
        text: what `read` has returned.
        made: what `config_object` names, if it is set.

    Raises:
        ConfigError: what he says is wrong.
    """
    if settings.config:
        _apply_table(settings.config, key="logging.config")
    elif settings.config_object is not None:
        key = f"logging.config_object: {settings.config_object}"
        if not isinstance(made, dict):
            raise ConfigError(f"{key} is no dict", hint="see logging.config.dictConfig")
        _apply_table(made, key=key)
    elif settings.config_json is not None:
        table = _parsed_json(settings.config_json, text)
        _apply_table(table, key=f"logging.config_json: {settings.config_json}")
    elif settings.config_file is not None:
        _apply_ini(settings.config_file, text)


def _parsed_json(path: Path, text: str) -> dict[str, Any]:
    try:
        table = json.loads(text)
    except ValueError as error:
        raise ConfigError(
            f"logging.config_json: {path} is no JSON: {error}", hint="correct the file"
        ) from error
    if not isinstance(table, dict):
        raise ConfigError(
            f"logging.config_json: {path} is no JSON object", hint="see logging.config.dictConfig"
        )
    return table


def _apply_table(table: dict[str, Any], *, key: str) -> None:
    merged = {**_DEFAULTS, **table}
    for section in ("formatters", "handlers"):
        merged[section] = {**_DEFAULTS[section], **table.get(section, {})}
    loggers = dict(table.get("loggers", {}))
    for alias, name in logs.GUNICORN_NAMES.items():
        if alias in loggers:  # the same logger: said twice, our own name wins
            loggers.setdefault(name, loggers.pop(alias))
            loggers.pop(alias, None)
    merged["loggers"] = loggers
    from logging.config import dictConfig  # noqa: PLC0415 - brings much, and few have one

    with _Sinks(loggers):
        try:
            dictConfig(merged)
        except (ValueError, TypeError, AttributeError, ImportError, OSError, KeyError) as error:
            raise ConfigError(f"{key}: {_why(error)}", hint="see logging.config.dictConfig") from error


def _apply_ini(path: Path, text: str) -> None:
    import configparser  # noqa: PLC0415 - brings much, and few have one
    from logging.config import fileConfig  # noqa: PLC0415 - likewise

    parser = configparser.ConfigParser({"__file__": str(path), "here": str(path.parent)})
    try:
        parser.read_string(text, source=str(path))
        named = _named_loggers(parser)
        with _Sinks(named):
            fileConfig(parser, disable_existing_loggers=False)
    except Exception as error:  # fileConfig evaluates arguments: anything can come
        raise ConfigError(
            f"logging.config_file: {path}: {_why(error)}", hint="see logging.config.fileConfig"
        ) from error


def _named_loggers(parser: configparser.ConfigParser) -> dict[str, dict[str, Any]]:
    """Give loggers of ours their name, and return what is said of them as `dictConfig` would have it."""
    found: dict[str, dict[str, Any]] = {}
    for section in parser.sections():
        name = parser.get(section, "qualname", raw=True, fallback="")
        if section.startswith("logger_") and name in OWN_NAMES:
            parser.set(section, "qualname", OWN_NAMES[name])
            found[OWN_NAMES[name]] = {
                "handlers": parser.get(section, "handlers", fallback="").split(),
                "propagate": parser.get(section, "propagate", fallback="1") != "0",
            }
    return found


class _Sinks:
    """Keeps our sinks through a configuration, which closes all there are, and gives them to whom it does not name.

    Args:
        named: the loggers that it configures.
    """

    def __init__(self, named: dict[str, Any]) -> None:
        self._named = named
        self._kept = {
            name: list(logging.getLogger(name).handlers) for name in (logs.ERROR_LOG, logs.ACCESS_LOG)
        }
        self._references: list[Any] = []
        self._levels = {name: logging.getLogger(name).level for name in self._kept}

    def __enter__(self) -> None:
        known = logging._handlerList  # type: ignore[attr-defined] # noqa: SLF001 - there is no public way to keep a handler open
        own = {id(sink) for sinks in self._kept.values() for sink in sinks}
        self._references = [reference for reference in known if id(reference()) in own]
        known[:] = [reference for reference in known if id(reference()) not in own]

    def __exit__(self, kind: object, *_error: object) -> None:
        logging._handlerList.extend(self._references)  # type: ignore[attr-defined] # noqa: SLF001 - closed at exit again
        for name, sinks in self._kept.items():
            said = self._named.get(name)
            logger = logging.getLogger(name)
            logger.disabled = False
            goes_elsewhere = said is not None and (
                said.get("handlers") or (said.get("propagate") and logging.getLogger().handlers)
            )
            if kind is None and goes_elsewhere and said is not None:
                logger.propagate = bool(said.get("propagate", False))
                for sink in sinks:
                    sink.close()
                continue
            logger.propagate = False
            logger.handlers[:] = sinks
            if not logger.level or said is None:
                logger.setLevel(self._levels[name])


def _why(error: BaseException) -> str:
    cause = f": {error.__cause__}" if error.__cause__ is not None else ""
    return f"{type(error).__name__}: {error}{cause}"
