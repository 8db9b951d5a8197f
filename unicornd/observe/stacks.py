"""Where a worker writes the stacks of its threads when somebody asks: a file in memory beside its row.

The worker writes from Python, and, if that cannot run, from inside a signal (faulthandler), which knows a descriptor and
nothing else. The arbiter only reads, by pread(2). It neither truncates the file nor writes to it: both take the inode's
lock, which a write(2) of the worker holds for as long as its buffer cannot be read (a page of a file system of its own,
userfaultfd(2)), and the arbiter may wait for nobody. So it remembers what was there when it asked.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from unicornd.observe.sealed import sealed_memory

if TYPE_CHECKING:
    from unicornd.units import Fd

MAX_STACKS_BYTES = 256 * 1024
"""The size of the file; what is beyond is not written (its growth is sealed)."""
WANTED, WRITTEN = 0, 1


class Stacks:
    """The stacks of one worker.

    Args:
        fd: memfd of `MAX_STACKS_BYTES`.
        flag: one number of the row: `WANTED`, or `WRITTEN` by Python code, and whole.
    """

    def __init__(self, fd: Fd, *, flag: memoryview[int]) -> None:
        self.fd = fd
        self._flag = flag
        self._before = b""
        self._seen = b""
        self._is_insisted_on = False

    @staticmethod
    def create() -> Fd:
        """Make the file.

        Raises:
            OSError: no memory or no file descriptor.
        """
        return sealed_memory("unicornd-stacks", MAX_STACKS_BYTES)

    def close(self) -> None:
        """Let go of the file."""
        self._flag.release()
        os.close(self.fd)

    # The arbiter's side.

    def forget(self) -> None:
        """Want new ones."""
        self._before = self._content()
        self._is_insisted_on = False
        self._flag[0] = WANTED

    def insist(self) -> None:
        """From now on, take what faulthandler writes, too: behind what was there, perhaps not whole."""
        self._is_insisted_on = True

    def read(self) -> str:
        """Return what was written since they were wanted."""
        content = self._seen = self._content()
        if self._flag[0] == WANTED:
            is_appended = self._is_insisted_on and content.startswith(self._before)
            content = content[len(self._before) :] if is_appended else b""
        return content.decode(errors="replace")

    def left(self) -> str:
        """Return what a process that is dead has written since anybody has read: by Python code, or at a fault."""
        content = self._content()
        is_appended = content.startswith(self._seen)
        return (content[len(self._seen) :] if is_appended else content).decode(errors="replace")

    # The worker's side.

    @property
    def are_written(self) -> bool:
        """Whether those that are wanted have been written."""
        return self._flag[0] != WANTED

    def write(self, text: bytes) -> None:
        """Write them at one go, over all that was there; faulthandler's next ones come behind.

        Raises:
            OSError: the file cannot be written.
        """
        text = text[:MAX_STACKS_BYTES]
        end = os.lseek(self.fd, 0, os.SEEK_CUR)
        os.pwrite(self.fd, text.ljust(min(end, MAX_STACKS_BYTES), b"\0"), 0)
        os.lseek(self.fd, len(text), os.SEEK_SET)
        self._flag[0] = WRITTEN

    def _content(self) -> bytes:
        return os.pread(self.fd, MAX_STACKS_BYTES, 0).partition(b"\0")[0]
