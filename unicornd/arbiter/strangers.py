"""Children of the arbiter that it has not forked: a hook's, or orphans of which it is the subreaper or PID 1.

Used by the arbiter's loop. Whoever reaps a child gets its exit code, and nobody else: `Popen.poll()` of a hook says 0 for
one that the arbiter has reaped. So what a hook may still ask for is left alone for a while. Orphans cannot be told from
that, but without hooks of the arbiter, nobody could ask.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from unicornd.units import Monotonic, Seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from unicornd.arbiter.kernel import Kernel
    from unicornd.units import Pid

PATIENCE = Seconds(60)
"""How long an ended child stays for a hook to ask for its exit code. Longer would fill `ps` with zombies."""


class Strangers:
    """Decides who is left to hooks.

    Args:
        kernel: knows whom it has forked, and the time.
        is_worker: says of another child whether it is a worker that a mold has forked.
        has_hooks: says whether code of the operator's runs in the arbiter.
    """

    def __init__(
        self,
        kernel: Kernel,
        *,
        is_worker: Callable[[Pid], bool],
        has_hooks: Callable[[], bool],
    ) -> None:
        self._kernel = kernel
        self._is_worker = is_worker
        self._has_hooks = has_hooks
        self._seen: dict[Pid, Monotonic] = {}

    def leaves(self, pid: Pid) -> bool:
        """Return whether a child that has ended is not to be reaped yet."""
        if self._kernel.is_forked(pid) or not self._has_hooks() or self._is_worker(pid):
            return False
        now = self._kernel.now()
        return now < self._seen.setdefault(pid, now) + PATIENCE

    def tick(self, now: Monotonic) -> Monotonic | None:
        """Reap those that were left for long enough; return when the next ones will be."""
        if any(now >= since + PATIENCE for since in self._seen.values()):
            signal.raise_signal(signal.SIGCHLD)  # the loop looks again, in its next turn
        self._seen = {pid: since for pid, since in self._seen.items() if self._kernel.is_child(pid)}
        return min((Monotonic(since + PATIENCE) for since in self._seen.values()), default=None)
