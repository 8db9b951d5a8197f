"""Root's rights are gone before the application's first file is opened, as strace sees it."""

from __future__ import annotations

import pwd
import re
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from tests.support.hostile import prison, why_not

if TYPE_CHECKING:
    from pathlib import Path

REFUSAL = why_not() or ("" if shutil.which("strace") else "strace is not installed")
pytestmark = pytest.mark.skipif(bool(REFUSAL), reason=REFUSAL)

CALLS = (
    "?setgroups", "?setgid", "?setuid", "?setregid", "?setreuid", "?setresgid", "?setresuid", "?openat", "?open", "?clone",
    "?clone3", "?fork", "?vfork",
)  # fmt: skip
FORKS = frozenset({"clone", "clone3", "fork", "vfork"})
LINE = re.compile(r"(?P<pid>\d+) +(?:<\.\.\. )?(?P<name>\w+)(?P<rest>.*)")
USER = pwd.getpwnam("nobody")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Of a process: real, effective and saved ids, supplementary groups (None: as it was started), and what was set last.

    Attributes:
        order: what was set last of the three, the oldest first.
    """

    uids: tuple[int, int, int] = (0, 0, 0)
    gids: tuple[int, int, int] = (0, 0, 0)
    groups: tuple[int, ...] | None = None
    order: tuple[str, ...] = ()

    def after(self, name: str, arguments: list[int]) -> Credentials:
        """Return what they are after a call of root that has succeeded (setresuid(2), setuid(2), setgroups(2))."""
        kind = "groups" if name == "setgroups" else name[-3:]
        order = (*(each for each in self.order if each != kind), kind)
        if name == "setgroups":
            return replace(self, groups=tuple(arguments[1:]), order=order)
        old = self.uids if name.endswith("uid") else self.gids
        match len(arguments):
            case 1:
                asked = arguments * 3
            case 2:
                asked = [*arguments, arguments[1]]
            case _:
                asked = arguments
        real, effective, saved = (
            was if want in {-1, 2**32 - 1} else want for was, want in zip(old, asked, strict=True)
        )
        ids = (real, effective, saved)
        return (
            replace(self, uids=ids, order=order)
            if name.endswith("uid")
            else replace(self, gids=ids, order=order)
        )


def trace_of(file: Path) -> list[tuple[int, str, str, int]]:
    """Return the calls in the order in which they have ended: pid, name, arguments, result."""
    begun: dict[int, str] = {}
    calls = []
    for line in file.read_text(errors="replace").splitlines():
        found = LINE.match(line)
        if found is None:
            continue
        pid, rest = int(found["pid"]), found["rest"]
        if rest.endswith("<unfinished ...>"):
            begun[pid] = rest.removesuffix("<unfinished ...>")
            continue
        if rest.startswith(" resumed>"):
            rest = begun.pop(pid, "") + rest.removeprefix(" resumed>")
        if result := re.search(r"= (-?\d+)(?: \w.*)?$", rest):
            calls.append((pid, found["name"], rest[: result.start()], int(result[1])))
    return calls


def openers_of(path: str, trace: Path) -> dict[int, Credentials]:
    """Return who has opened a file, and as whom."""
    known: dict[int, Credentials] = {}
    openers: dict[int, Credentials] = {}
    for pid, name, arguments, result in trace_of(trace):
        mine = known.get(pid, Credentials())
        if name in FORKS:
            known[result] = mine
        elif name.startswith("set"):
            known[pid] = (
                mine.after(name, [int(each) for each in re.findall(r"-?\d+", arguments)])
                if result == 0
                else mine
            )
        elif f'"{path}"' in arguments and result >= 0:
            openers.setdefault(pid, mine)
    return openers


@pytest.mark.parametrize("is_preloaded", [False, True])
def test_root_is_dropped_before_the_application_is_opened(*, is_preloaded: bool) -> None:
    with prison(is_preloaded=is_preloaded) as fleet:
        trace = fleet.folder / "trace"
        fleet.prefix = [
            "strace",
            "-f",
            "-qq",
            "-s200",
            f"-etrace={','.join(CALLS)}",
            "-esignal=none",
            f"-o{trace}",
        ]
        fleet.start()
        openers = openers_of(str(fleet.folder / "site_app.py"), trace)
        assert len(openers) == (1 if is_preloaded else 3)
        for credentials in openers.values():
            assert credentials.uids == (USER.pw_uid,) * 3
            assert credentials.gids == (USER.pw_gid,) * 3
            assert credentials.groups == (USER.pw_gid,)
            assert credentials.order == ("groups", "gid", "uid")
        assert fleet.end() == 0
