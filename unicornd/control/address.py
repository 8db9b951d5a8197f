"""What an instance is called, and where its control socket may be.

Used by the arbiter at start.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from unicornd.config import instance as instances
from unicornd.config.resolved import name_of
from unicornd.files import make_folder

if TYPE_CHECKING:
    from unicornd.config.loaded import Loaded, Sources


class ControlAddress:
    """Where the control socket may be, and what the instance is called.

    Args:
        loaded: the settings.
        sources: where they came from.
    """

    def __init__(self, loaded: Loaded, sources: Sources) -> None:
        settings = loaded.settings
        if settings.process.name is not None:
            self.instance = settings.process.name
        elif loaded.config_file is not None:
            self.instance = instances.instance_of_path(loaded.config_file)
        else:
            self.instance = instances.instance_of_target(name_of(settings.app), sources.folder)
        own = settings.control.socket
        self.candidates = (
            (own,)
            if own
            else instances.control_socket_candidates(os.environ, uid=os.geteuid(), instance=self.instance)
        )

    @property
    def fallback_log(self) -> str:
        """Where a daemon logs that has no log file: beside its control socket, else in its user's state folder."""
        logs = [
            address.removesuffix(".sock") + ".log"
            for address in self.candidates
            if not address.startswith("@")
        ]
        for place in filter(None, [*logs, instances.state_log(os.environ, self.instance)]):
            folder = os.path.dirname(place)  # noqa: PTH120 - addresses are texts
            with suppress(OSError):
                make_folder(folder)
            if os.access(folder, os.W_OK):
                return place
        return os.devnull
