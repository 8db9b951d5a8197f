"""Names for the plain numbers that cross the borders of this package.

Nothing here runs: these are types for the type checker. A `Monotonic` is a point on the clock that
`time.monotonic()` reads; a `Seconds` is a distance on it. Mixing them up is what these names prevent.
"""

from __future__ import annotations

from typing import NewType

Seconds = NewType("Seconds", float)
"""A duration in seconds; 0 means "no limit" wherever a limit is meant."""

Monotonic = NewType("Monotonic", float)
"""A point in time, in seconds of CLOCK_MONOTONIC (the same clock in arbiter and workers)."""

Pid = NewType("Pid", int)
"""A process id in the arbiter's pid namespace."""

Slot = NewType("Slot", int)
"""A worker's place in its pool, counted from 1; a replacement takes over the slot of the one it replaces."""

Generation = NewType("Generation", int)
"""Which load of configuration and application a worker belongs to, counted from 1."""

Fd = NewType("Fd", int)
"""An open file descriptor."""
