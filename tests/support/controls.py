"""Control characters, for tests of whatever shows text of others: which ones there are, and texts full of them."""

from __future__ import annotations

import unicodedata

from hypothesis import strategies as st

OVERRIDES = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

FORGED = "2026-11-30 23:59:59 +0000 [1] [INFO] FORGED"
HOSTILE = f"no\n{FORGED}\r{FORGED}\x0b\x0c\x1c\x85\u2028\u2029 \x1b[31m\x9b31m\x07\x00\x7f\u202e\u2066 [bold]b[/bold] <i>"
"""Each kind of control character, a line that looks like a record, and what a markup would take for its own."""


def controls_in(text: str, *, but: str = "") -> set[str]:
    """Return the control characters in a text, but for those that may be there."""
    return {
        character
        for character in text
        if character not in but
        and (unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} or character in OVERRIDES)
    }


def texts() -> st.SearchStrategy[str]:
    """Any text, with more control characters than chance would give, lone surrogates among them."""
    special = st.sampled_from('\n\r\t\x00\x1b\x7f\x85\x9b\u2028\u2029\u202e\u2066\ud800\udcff "\\[]<>&%|:=')
    return st.lists(st.one_of(st.characters(), special), max_size=24).map("".join)
