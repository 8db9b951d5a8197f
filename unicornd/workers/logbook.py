"""Opening the logs as the operator wants them: our own, then his logging configuration, then his logger class.

Run by arbiter, molds and workers, each for itself, whenever a generation's settings take effect; and by a process that
only tries whether it would work (`arbiter.trial`).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from unicornd.accounts import acting_as
from unicornd.errors import AppError, BootError, ConfigError
from unicornd.observe import logconfig, logs
from unicornd.observe.logfile import own_handlers, put_in_their_name
from unicornd.observe.logger import Forward
from unicornd.observe.statsd import Statsd, StatsdSink
from unicornd.observe.streams import unblock
from unicornd.workers.apploader import boot_error, load_object
from unicornd.workers.importing import on_behalf

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from unicornd.accounts import Account
    from unicornd.config.sections.logging import LoggingSettings
    from unicornd.config.sections.metrics import MetricsSettings
    from unicornd.config.values import ImportString
    from unicornd.observe.logfile import OpenLog


def open_logs(
    settings: LoggingSettings,
    *,
    metrics: MetricsSettings,
    cfg: Callable[[], object],
    files: Mapping[str, OpenLog] | None = None,
    writer: Account | None = None,
) -> None:
    """Let the logs lead where a generation's settings say; in a process that stays who it is.

    Args:
        settings: [logging].
        metrics: [metrics]: the error log counts for statsd.
        cfg: makes gunicorn's view of all settings, for the operator's logger class.
        files: open already, by path; None to open them here.
        writer: whom the workers run as, if not as we: in that name the operator's own logging is set up.

    Raises:
        ConfigError: a file cannot be opened, a configuration is wrong, a class cannot be loaded or made.
    """
    text = open_own_logs(settings, files=files)
    try:
        with acting_as(writer):
            open_their_logs(settings, text, metrics=metrics, cfg=cfg)
    except OSError as error:
        raise ConfigError(f"logging: it cannot be set up as the workers' user: {error.strerror}") from error
    if writer is not None:
        put_in_their_name(writer)


def open_own_logs(settings: LoggingSettings, *, files: Mapping[str, OpenLog] | None) -> str:
    """Let our own logs lead where they should; return the text of the operator's logging configuration.

    Raises:
        ConfigError: a file cannot be opened or read.
    """
    logs.configure(settings, files=files)
    if logconfig.has_own(settings):  # while we may still read where Python is
        import configparser  # noqa: F401, PLC0415 - few need it
        import logging.config  # noqa: PLC0415 - likewise
        import logging.handlers  # noqa: F401, PLC0415 - likewise
    return logconfig.read(settings)


def open_their_logs(
    settings: LoggingSettings, text: str, *, metrics: MetricsSettings, cfg: Callable[[], object]
) -> None:
    """Do what the operator wants besides; in a worker, as its user, who then owns what is opened.

    Raises:
        ConfigError: a configuration is wrong, a class cannot be loaded or made.
    """
    with on_behalf():
        made = settings.config_object and _loaded(settings.config_object, key="logging.config_object")
        logconfig.apply(settings, text=text, made=made)
        if settings.logger_class is not None:
            install_class(settings.logger_class, cfg=cfg())
    if is_own(settings):
        unblock(own_handlers())
    if metrics.statsd is not None:
        statsd = Statsd(metrics)
        logging.getLogger(logs.ERROR_LOG).addHandler(StatsdSink(statsd))
        if not statsd.is_open:
            logging.getLogger(logs.ERROR_LOG).warning(
                "metrics.statsd: %s is not known; no metrics are sent", metrics.statsd
            )


def is_own(settings: LoggingSettings) -> bool:
    """Whether the operator's code or configuration takes part: then it has to be tried before it is relied on."""
    return settings.logger_class is not None or logconfig.has_own(settings)


def _loaded(target: ImportString, *, key: str) -> Any:  # noqa: ANN401 - whatever it names
    """Import what a setting names.

    Raises:
        ConfigError: it cannot be had.
    """
    try:
        return load_object(target)
    except (AppError, BootError) as error:
        message = error.message.removeprefix("app.target: ")
        raise ConfigError(f"{key}: {message}", hint=error.hint, detail=error.detail) from error


def install_class(target: ImportString, *, cfg: object) -> None:
    """Have the operator's class write both logs.

    Raises:
        ConfigError: it cannot be loaded, or its constructor raises.
    """
    made = _loaded(target, key="logging.logger_class")
    try:
        logs.set_aliases(are_there=False)
        logger: Any = made(cfg) if isinstance(made, type) or target.arguments is None else made
    except Exception as error:
        logs.set_aliases(are_there=True)
        failure = boot_error(f"{target} raised", error)
        raise ConfigError(f"logging.logger_class: {failure.message}", detail=failure.detail) from error
    missing = [name for name in ("log", "access") if not callable(getattr(logger, name, None))]
    if missing:
        logs.set_aliases(are_there=True)
        raise ConfigError(
            f"logging.logger_class: {target} has no {' and no '.join(missing)}",
            hint="inherit from unicornd.observe.logger.Logger, which has all that is needed",
        )
    error_log = logging.getLogger(logs.ERROR_LOG)
    logs.install(logs.ERROR_LOG, [Forward(logger)], level=logging.getLevelName(error_log.level))
    logs.install(logs.ACCESS_LOG, [], level="INFO")
