"""Where the arbiter answers: the control socket, and [admin] for probes, numbers and a browser.

Run by the arbiter's loop. In an upgrade, the predecessor answers at both as long as it is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unicornd.arbiter.routes import make_route
from unicornd.control.endpoints import READ_ONLY, Endpoint
from unicornd.control.hosts import make_host_rule
from unicornd.control.peers import make_peer_rule, socket_mode
from unicornd.control.server import ControlServer
from unicornd.errors import UnicorndError
from unicornd.forking import BOUNDARY
from unicornd.sockets.listener import Ownership, open_listener

if TYPE_CHECKING:
    import logging
    import selectors
    import socket
    from collections.abc import Callable, Collection

    from unicornd.arbiter.requests import ControlPort
    from unicornd.config.sections.admin import AdminSettings
    from unicornd.config.sections.control import ControlSettings
    from unicornd.control.exchange import Gate
    from unicornd.control.listening import ControlSocket
    from unicornd.sockets.listener import Listener
    from unicornd.units import Monotonic

ADMIN_BACKLOG = 128
LOOK_SECONDS = 2.0
"""How often it is looked whether the control socket has its path."""


class Reception:
    """The control servers.

    Args:
        selector: the loop's.
        clock: CLOCK_MONOTONIC.
        log: says where they listen.

    Attributes:
        admin: the listener of [admin], or None.
    """

    def __init__(
        self, selector: selectors.BaseSelector, *, clock: Callable[[], Monotonic], log: logging.Logger
    ) -> None:
        self._selector = selector
        self._clock = clock
        self._log = log
        self._servers: list[ControlServer] = []
        self._has_to_wait = False
        self._admin_hosts: tuple[str, ...] = ()
        self._control: tuple[ControlSocket, ControlServer, int] | None = None
        self._next_look = 0.0
        self._told = ""
        self.admin: Listener | None = None

    def open_admin(
        self, settings: AdminSettings, service: ControlPort, *, mode: int, left: Listener | None
    ) -> None:
        """Listen for [admin].

        Args:
            settings: where, or nowhere, and to which Host names there is an answer.
            service: answers.
            mode: of a Unix socket.
            left: the predecessor's listener, or None. If it is the same, answer there when that is gone: what has been
                counted until then is in its answers.

        Raises:
            ListenError: that cannot be listened on.
        """
        address, self._admin_hosts = settings.bind, settings.hosts
        if left is not None and left.address == address:
            self.admin, self._has_to_wait = left, True
            BOUNDARY.own(left.sock)
            return
        if left is not None:
            left.sock.close()  # who connects there would wait in vain
        if address is not None:
            self.admin = open_listener(address, backlog=ADMIN_BACKLOG, ownership=Ownership(mode=mode))
            BOUNDARY.own(self.admin.sock)
            self._serve_admin(service)

    def take_over(
        self, control: ControlSocket | None, settings: ControlSettings, *, service: ControlPort
    ) -> None:
        """Answer at the control socket; and at what a predecessor has left."""
        if control is not None:
            rule = make_peer_rule(settings)
            server = self._serve(control.sock, service, among=tuple(Endpoint), authorize=rule.authorize)
            self._control = control, server, socket_mode(settings.mode, rule)
        if self._has_to_wait:
            self._has_to_wait = False
            self._serve_admin(service)

    def stop_listening(self) -> None:
        """Let nobody new in; who is connected is still answered."""
        self._control = None
        for server in self._servers:
            server.stop_listening()

    def close(self) -> None:
        """Answer what can be answered at once, and hang up on everybody."""
        for server in self._servers:
            server.close()

    def tick(self, now: Monotonic) -> Monotonic | None:
        """Give the servers a turn; return when the next one wants another."""
        if now >= self._next_look:
            self._next_look = now + LOOK_SECONDS
            self._look()
        moments = [moment for server in self._servers if (moment := server.tick(now)) is not None]
        return min(moments, default=None)

    def _look(self) -> None:
        """Open the control socket anew if its path is gone."""
        if self._control is None or not self._control[0].is_lost:
            return
        control, server, mode = self._control
        try:
            control.reopen(mode=mode)
        except UnicorndError as error:
            why = error.detail or error.message
            if why != self._told:
                self._told = why
                self._log.error(
                    "the control socket %s is gone, and cannot be opened anew: %s", control.address, why
                )
            return
        server.renew()
        self._told = ""
        self._log.warning("the control socket %s was gone: it is opened anew", control.address)

    def _serve_admin(self, service: ControlPort) -> None:
        if self.admin is not None:
            gate = make_host_rule(self._admin_hosts, self.admin.address).authorize
            self._serve(self.admin.sock, service, among=READ_ONLY, authorize=lambda _sock: gate)
            self._log.info("admin pages at %s", self.admin.bound)

    def _serve(
        self,
        sock: socket.socket,
        service: ControlPort,
        *,
        among: Collection[Endpoint],
        authorize: Callable[[socket.socket], Gate | None],
    ) -> ControlServer:
        route = make_route(service, among=among)
        server = ControlServer(self._selector, sock, route=route, authorize=authorize, clock=self._clock)
        self._servers.append(server)
        return server
