"""What holds for every test.

A slow machine is not a failure, so Hypothesis has no deadline. Coverage measures the processes that run tests, not those
that tests start: what they import is measured where it is tested, and measuring them would double their start.

The package is compiled first: half of what the start of a fleet costs is reading source, and fleets under test write no
bytecode (`tests.support.fleet`), no more than anybody does where PYTHONDONTWRITEBYTECODE is set.
"""

from __future__ import annotations

import compileall
import os
from pathlib import Path

from hypothesis import settings

settings.register_profile("unicornd", deadline=None)
settings.load_profile("unicornd")

if "PYTEST_XDIST_WORKER" in os.environ:  # the process above them hands it down to them
    os.environ.pop("COVERAGE_PROCESS_CONFIG", None)
else:  # the process above them, or the only one
    compileall.compile_dir(Path(__file__).parents[1] / "unicornd", quiet=1)
