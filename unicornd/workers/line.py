"""What an exchange sees of its connection, and how it is told to end.

Any thread or greenlet that runs an application. The reactor's `Connection` is such a line, and so is that of the kinds
with greenlets (`serve`).
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from unicornd.http.environ import Environ
    from unicornd.http.errors import Refusal
    from unicornd.units import Seconds
    from unicornd.workers.output import Output


class Interruption(BaseException):
    """Raised inside an application that has to end now; its client is told why.

    Args:
        refusal: what the client is told if nothing was sent yet.
    """

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


class Body(Protocol):
    """A request's body, as an exchange sees it."""

    @property
    def refusal(self) -> Refusal | None:
        """Why it could not be read, if the application has tried to."""

    def rewound(self) -> IO[bytes]:
        """Return it as a file at its beginning."""


class Line(Protocol):
    """The connection of an exchange, as far as it has to do with it."""

    base: Environ
    """The environ that every request of its listener begins with."""

    @property
    def remote(self) -> tuple[str, str]:
        """Host and port of the client; empty for a Unix socket."""

    @property
    def output(self) -> Output:
        """What is not sent yet."""

    @property
    def spool(self) -> Body | None:
        """The request's body."""

    @property
    def is_taken(self) -> bool:
        """Whether the application has taken the connection over."""

    @property
    def may_move(self) -> bool:
        """Whether another worker could go on with it when this one leaves."""

    def wait_writable(self, patience: Seconds) -> bool:
        """Wait until the client takes more of its response; False if it has not within `patience` (0: for ever)."""

    def store_output(self) -> bool:
        """Put what the client does not read into a file; False if the application has to wait for the client."""

    def reset_on_close(self) -> None:
        """Have the client see a reset."""
