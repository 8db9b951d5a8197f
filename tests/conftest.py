"""What holds for every test.

A slow machine is not a failure, so Hypothesis has no deadline. Coverage measures the processes that run tests, not those
that tests start: what they import is measured where it is tested, and measuring them would double their start.
"""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("unicornd", deadline=None)
settings.load_profile("unicornd")

if "PYTEST_XDIST_WORKER" in os.environ:  # the process above them hands it down to them
    os.environ.pop("COVERAGE_PROCESS_CONFIG", None)
