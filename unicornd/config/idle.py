"""What gunicorn's words say and its workers of a kind do not heed: left out, as there; in an unicornd.toml it is an error.

One rule for flags, `$GUNICORN_CMD_ARGS`, a gunicorn.conf.py and the import, asked when everything was read: a flag may change
the kind that a file has said. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unicornd.config.conversions import known_kind
from unicornd.config.flags import FLAGS
from unicornd.config.kinds import ASGI, GEVENT_PYWSGI, GREEN, NAMES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unicornd.config.draft import Draft, Key
    from unicornd.config.given import Origin

_IDLE: Mapping[Key, frozenset[str]] = {
    ("workers", "threads"): GREEN,
    ("http", "sendfile"): frozenset({ASGI}),
    ("http", "tmp_upload_dir"): frozenset({GEVENT_PYWSGI, ASGI}),
}
"""Settings, and kinds that neither gunicorn nor we heed them for."""
_WSGI = frozenset(NAMES) - {ASGI}


def drop_idle(draft: Draft, *, python: bool) -> dict[Key, str]:
    """Take out of a draft what gunicorn does not heed for the kind that is set; return it with the reason.

    Args:
        draft: everything that was said.
        python: whether its file is gunicorn's.
    """
    kind = draft.said("workers", "kind")
    kind = known_kind(kind) if isinstance(kind, str) else ""
    idle = [
        key
        for key, origin in draft.origins.items()
        if (kind in _IDLE.get(key, ()) or (len(key) > 1 and key[0] == "asgi" and kind in _WSGI))
        and _is_gunicorns(origin, python=python)
    ]
    for key in idle:
        draft.drop(key)
    return dict.fromkeys(idle, f'it has no effect on the kind "{kind}"')


def _is_gunicorns(origin: Origin, *, python: bool) -> bool:
    """Whether gunicorn would understand what was said there: one of its flags, or its file."""
    return (python and origin.layer == "file") or origin.where.rpartition(" ")[2] in FLAGS
