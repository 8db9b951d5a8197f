"""What is not shown: values whose name says that they are secret, and passwords inside URLs.

Pure. A guess by name, on the safe side: it hides from screens and logs, it protects nothing.
"""

from __future__ import annotations

import re

HIDDEN = "***"

_NAME = re.compile(
    r"secret|passw|token|credential|private|(?:api|access|signing|encryption)_?key|database_url|dsn",
    re.IGNORECASE,
)
_PASSWORD = re.compile(r"(?<=://)([^/@:\s]*):[^/\s]+@")


def masked(name: str, text: str) -> str:
    """Return the text that may be shown of a variable."""
    if _NAME.search(name):
        return HIDDEN
    return _PASSWORD.sub(rf"\1:{HIDDEN}@", text)
