"""TLS for `gevent_pywsgi`: a socket for gevent's handler, over a connection of ours that speaks TLS.

Run in the greenlet of a connection.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from unicornd.workers.kinds.gevent import raw_class
from unicornd.workers.tlssocket import TlsSocket

if TYPE_CHECKING:
    import ssl

    from unicornd.http.environ import Environ
    from unicornd.workers.strand import Strand


def encrypted(strand: Strand, tls: ssl.SSLContext) -> TlsSocket:
    """Put a connection that speaks TLS in the place of a plain one, over the same descriptor."""
    from unicornd.workers.tlsconnection import TlsConnection  # noqa: PLC0415 - OpenSSL takes memory that others need not spend

    plain = strand.connection
    sock = raw_class()(fileno=plain.sock.detach())
    base: Environ = {"wsgi.url_scheme": "https", "HTTPS": "on", "SSL_CLIENT_VERIFY": "NONE"}
    connection = TlsConnection(sock, plain.remote, base=base, policy=plain.policy, context=tls)
    strand.connection, strand.output = connection, connection.output
    return TlsSocket(strand, connection)


def shake_hands(strand: Strand, sock: TlsSocket) -> None:
    """Have the handshake end within `timeouts.head`.

    Raises:
        Refusal, EOFError: see `TlsSocket.shake_hands`.
        OverdueError: it takes too long.
    """
    connection = strand.connection
    patience = connection.policy.head
    connection.deadline = time.monotonic() + patience if patience else 0.0
    strand.is_waiting = True
    try:
        sock.shake_hands()
    finally:
        strand.is_waiting = False
        connection.deadline = 0.0
