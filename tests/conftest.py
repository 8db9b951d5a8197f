"""What holds for every test: a slow machine is no failure, so Hypothesis has no deadline."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("unicornd", deadline=None)
settings.load_profile("unicornd")
