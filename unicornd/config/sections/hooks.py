"""[hooks]: functions of the operator's that are called at moments of a fleet's life."""

from __future__ import annotations

from pydantic import Field

from unicornd.config.sections.section import ROLLING, Section
from unicornd.config.texts import ImportText


def _hook(what: str) -> ImportText | None:
    hook: ImportText | None = Field(
        default=None,
        description=what,
        examples=["shop.hooks:function", "./gunicorn.conf.py:function"],
        json_schema_extra=ROLLING,
    )
    return hook


class HooksSettings(Section):
    """Functions to call, with gunicorn's names and signatures: "module:function" or "./file.py:function"."""

    on_starting: ImportText | None = _hook(
        "(server) Arbiter: before anything is opened. An exception ends the start."
    )
    when_ready: ImportText | None = _hook(
        "(server) Arbiter: the listeners are open, no worker is forked yet."
    )
    on_reload: ImportText | None = _hook(
        "(server) Arbiter: a reload was accepted, before its first worker is forked."
    )
    pre_fork: ImportText | None = _hook("(server, worker) Arbiter: before each fork.")
    post_fork: ImportText | None = _hook("(server, worker) Worker: right after the fork.")
    post_worker_init: ImportText | None = _hook("(worker) Worker: the application is loaded.")
    worker_int: ImportText | None = _hook("(worker) Worker: it was told to end at once (INT, QUIT).")
    worker_abort: ImportText | None = _hook("(worker) Worker: it ran into a timeout (ABRT).")
    pre_request: ImportText | None = _hook("(worker, request) Worker: before the application is called.")
    post_request: ImportText | None = _hook(
        "(worker, request, environ, response) Worker: after the response."
    )
    child_exit: ImportText | None = _hook("(server, worker) Arbiter: a worker has ended.")
    worker_exit: ImportText | None = _hook("(server, worker) Worker: it is leaving.")
    nworkers_changed: ImportText | None = _hook(
        "(server, new, old) Arbiter: another number of workers is wanted."
    )
    on_exit: ImportText | None = _hook("(server) Arbiter: just before it ends.")
    pre_exec: ImportText | None = _hook(
        "(server) New process: an upgrade, before the new unicornd is executed."
    )
    ssl_context: ImportText | None = _hook(
        "(config, default_factory) Worker: return the ssl.SSLContext for TLS, as the worker's user; the default one "
        "was made before."
    )
