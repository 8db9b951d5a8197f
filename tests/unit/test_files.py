# ruff: noqa: PTH101, PTH104, PTH108, PTH120, PTH208, PTH211 - system calls, as an attacker makes them
"""Files that root opens, replaces and removes where somebody else may write, too."""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import signal
import socket
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.places import open_folder
from unicornd.accounts import Account, acting_as, name_of
from unicornd.apart import Apart
from unicornd.files import Folder, held, open_file, open_log
from unicornd.walk import UnsafeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
RACE_SECONDS = 3.0
ROUNDS = 10_000


def nobody() -> Account:
    entry = pwd.getpwnam("nobody")
    return Account(uid=entry.pw_uid, gid=entry.pw_gid, groups=(entry.pw_gid,))


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A folder of nobody's."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    if os.geteuid() == 0:
        os.chown(folder, nobody().uid, nobody().gid)
    return folder


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A file that only root may use."""
    file = tmp_path / "precious"
    file.write_text("precious\n")
    file.chmod(0o600)
    return file


def untouched(precious: Path) -> bool:
    found = precious.stat()
    return (found.st_uid, stat.S_IMODE(found.st_mode), precious.read_text()) == (0, 0o600, "precious\n")


def append(path: Path, text: bytes = b"line\n", *, writer: Account | None = None) -> None:
    fd = open_log(str(path), writer=writer)
    with contextlib.closing(os.fdopen(fd, "ab", buffering=0)) as file:
        file.write(text)


def test_a_new_log_has_the_usual_mode_and_a_second_opening_appends(tmp_path: Path) -> None:
    append(tmp_path / "a.log")
    append(tmp_path / "a.log")
    assert (tmp_path / "a.log").read_text() == "line\nline\n"
    assert (tmp_path / "a.log").stat().st_uid == os.geteuid()


def test_a_link_in_a_folder_of_our_own_is_followed_also_through_another_folder(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "link.log").symlink_to("deep/../real.log")
    (tmp_path / "deep" / "second.log").symlink_to("../link.log")
    (tmp_path / "way").symlink_to(tmp_path / "deep")
    append(tmp_path / "way" / "second.log")
    assert (tmp_path / "real.log").read_text() == "line\n"


def test_a_circle_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    for path in (tmp_path / "one", tmp_path / "one" / "a.log"):
        with pytest.raises(OSError, match="symbolic links") as raised:
            open_log(str(path))
        assert raised.value.errno == errno.ELOOP


def test_what_is_no_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        open_log(str(tmp_path / "file" / "a.log"))
    with pytest.raises(FileNotFoundError):
        open_log(str(tmp_path / "none" / "a.log"))


def test_a_fifo_without_a_reader_is_refused_at_once_and_one_with_a_reader_takes_lines(tmp_path: Path) -> None:
    path = tmp_path / "log.fifo"
    os.mkfifo(path)
    with pytest.raises(OSError, match="a FIFO that nobody reads"):
        open_log(str(path))
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    append(path)
    assert os.read(reader, 100) == b"line\n"
    os.close(reader)


def test_devices_and_descriptors_are_logs(tmp_path: Path) -> None:
    append(tmp_path / "a.log", b"", writer=None)
    for path in ("/dev/null", "/dev/stderr", "/dev/stdout"):
        with contextlib.suppress(OSError):  # under pytest's capture these are files that are gone
            os.close(open_log(path))
    fd = os.open(tmp_path / "a.log", os.O_WRONLY)
    own = open_log(f"/proc/self/fd/{fd}")
    os.write(own, b"by number\n")
    os.close(own)
    os.close(fd)
    assert (tmp_path / "a.log").read_text() == "by number\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")
def test_another_users_pipe_is_a_log_if_it_is_our_standard_output() -> None:
    reader, writer = os.pipe()

    def write_as_nobody() -> None:
        os.dup2(writer, 1)
        os.setuid(65534)
        with pytest.raises(PermissionError):
            os.open("/proc/self/fd/1", os.O_WRONLY)
        os.write(open_log("/dev/stdout"), b"line\n")

    Apart(write_as_nobody).result()
    assert os.read(reader, 9) == b"line\n"
    os.close(reader)
    os.close(writer)


def test_a_pipe_and_a_socket_among_our_descriptors_are_logs() -> None:
    reader, writer = os.pipe()
    one, other = socket.socketpair()
    for number, end in ((writer, reader), (one.fileno(), other.fileno())):
        fd = open_log(f"/dev/fd/{number}")
        os.write(fd, b"line\n")
        os.close(fd)
        assert os.read(end, 9) == b"line\n"
    for each in (reader, writer):
        os.close(each)
    one.close()
    other.close()


def test_a_file_appears_whole_in_the_place_of_a_link_and_no_draft_is_left(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("real")
    (tmp_path / "pid").symlink_to("real")
    with Folder.open(tmp_path) as folder:
        os.close(folder.put("pid", b"7\n"))
        assert folder.read("pid") == b"7\n"
        assert folder.read("none") is None
    assert (tmp_path / "real").read_text() == "real"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["pid", "real"]


def test_a_file_is_read_through_a_link_of_ours(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "real").write_text("real")
    (tmp_path / "link").symlink_to("deep/real")
    with Folder.open(tmp_path) as folder:
        assert folder.read("link") == b"real"


def test_a_file_that_cannot_be_put_in_its_place_leaves_no_draft(tmp_path: Path) -> None:
    (tmp_path / "pid").mkdir()
    with Folder.open(tmp_path) as folder, pytest.raises(IsADirectoryError):
        folder.put("pid", b"7\n")
    assert [each.name for each in tmp_path.iterdir()] == ["pid"]


def test_only_the_inode_that_is_meant_is_removed(tmp_path: Path) -> None:
    (tmp_path / "one").touch()
    with Folder.open(tmp_path) as folder:
        inode = folder.inode("one")
        (tmp_path / "one").rename(tmp_path / "kept")
        (tmp_path / "one").touch()
        folder.remove("one", inode=inode)
        assert (tmp_path / "one").exists()
        folder.remove("one", inode=folder.inode("one"))
    assert not (tmp_path / "one").exists()


def test_nothing_but_a_file_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pid")
    with Folder.open(tmp_path) as folder, pytest.raises(OSError, match="no file"):
        folder.read("pid")


@NEEDS_ROOT
def test_in_their_folder_a_log_is_made_in_their_name(theirs: Path) -> None:
    append(theirs / "a.log", writer=nobody())
    append(theirs / "a.log", writer=nobody())
    assert (theirs / "a.log").read_text() == "line\nline\n"
    assert (theirs / "a.log").stat().st_uid == nobody().uid
    assert os.geteuid() == os.getegid() == 0


@NEEDS_ROOT
def test_a_folder_of_another_user_than_the_workers_is_used_in_its_owners_name(theirs: Path) -> None:
    writer = Account(uid=12345, gid=12345, groups=(12345,))
    append(theirs / "a.log", writer=writer)
    append(theirs / "b.log")
    assert {each.stat().st_uid for each in theirs.iterdir()} == {nobody().uid}


@NEEDS_ROOT
def test_a_link_in_their_folder_is_refused_with_what_and_why_and_what_to_do(
    theirs: Path, precious: Path
) -> None:
    (theirs / "a.log").symlink_to(precious)
    with pytest.raises(UnsafeError, match=r"a\.log is a symbolic link, in the folder .*theirs") as raised:
        append(theirs / "a.log", writer=nobody())
    assert "use a folder that only root may write" in str(raised.value.strerror)
    assert untouched(precious)


@NEEDS_ROOT
def test_a_link_on_the_way_is_refused_and_so_is_a_way_back(theirs: Path, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (theirs / "way").symlink_to(tmp_path / "own")
    (theirs / "sub").mkdir()
    for path in (theirs / "way" / "a.log", theirs / "sub" / ".." / ".." / "own" / "a.log"):
        with pytest.raises(UnsafeError):
            append(path, writer=nobody())
    assert not list((tmp_path / "own").iterdir())


@NEEDS_ROOT
def test_a_link_of_ours_that_leads_into_their_folder_is_checked_there(
    theirs: Path, tmp_path: Path, precious: Path
) -> None:
    (tmp_path / "current.log").symlink_to(theirs / "a.log")
    append(tmp_path / "current.log", writer=nobody())
    assert (theirs / "a.log").stat().st_uid == nobody().uid
    (theirs / "a.log").unlink()
    (theirs / "a.log").symlink_to(precious)
    with pytest.raises(UnsafeError):
        append(tmp_path / "current.log", writer=nobody())
    assert untouched(precious)


@NEEDS_ROOT
def test_a_hard_link_to_what_only_root_may_use_is_refused(theirs: Path, precious: Path) -> None:
    os.link(precious, theirs / "a.log")
    with pytest.raises(UnsafeError):
        append(theirs / "a.log", writer=nobody())
    assert untouched(precious)


@NEEDS_ROOT
def test_a_hard_link_that_they_may_write_themselves_is_refused(theirs: Path) -> None:
    (theirs / "other").touch()
    os.chown(theirs / "other", nobody().uid, nobody().gid)
    os.link(theirs / "other", theirs / "a.log")
    with pytest.raises(UnsafeError, match="hard link"):
        append(theirs / "a.log", writer=nobody())


@NEEDS_ROOT
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["fifo", "folder"])
def test_only_files_are_used_in_their_folder(theirs: Path, make: Callable[[Path], None]) -> None:
    make(theirs / "a.log")
    os.chown(theirs / "a.log", nobody().uid, nobody().gid)
    reader = os.open(theirs / "a.log", os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(OSError, match=r"no regular file|Is a directory"):
        append(theirs / "a.log", writer=nobody())
    os.close(reader)


@NEEDS_ROOT
def test_a_file_of_a_third_ones_in_their_folder_is_refused(theirs: Path) -> None:
    (theirs / "a.log").touch(mode=0o600)
    os.chown(theirs / "a.log", 12345, 12345)
    with pytest.raises(UnsafeError, match="neither nobody, who may write the folder"):
        append(theirs / "a.log", writer=nobody())


@NEEDS_ROOT
def test_a_folder_that_the_workers_may_write_by_their_group_is_theirs_others_groups_are_roots(
    theirs: Path, precious: Path
) -> None:
    folder = theirs.with_name("shared")
    folder.mkdir()
    (folder / "a.log").symlink_to(precious)
    folder.chmod(0o775)
    os.chown(folder, 0, nobody().gid)
    with pytest.raises(UnsafeError):
        append(folder / "a.log", writer=nobody())
    os.chown(folder, 0, 4)
    append(folder / "a.log", writer=nobody())
    assert precious.read_text() == "precious\nline\n"


@NEEDS_ROOT
def test_beneath_a_folder_for_all_what_is_roots_is_roots(tmp_path: Path) -> None:
    """As beneath /tmp: nobody else may rename it there."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    (shared / "own").mkdir(mode=0o755)
    (shared / "own" / "a.log").symlink_to("real.log")
    append(shared / "own" / "a.log", writer=nobody())
    assert (shared / "own" / "real.log").stat().st_uid == 0
    (shared / "link").symlink_to("own")
    with pytest.raises(UnsafeError):
        append(shared / "link" / "a.log", writer=nobody())


def test_nothing_is_done_in_nobodys_name_and_names_are_told() -> None:
    with acting_as(None):
        assert os.geteuid() == os.getuid()
    assert name_of(Account(uid=0, gid=0, groups=())) == "root"
    assert name_of(Account(uid=54321, gid=0, groups=())) == "user 54321"


def file_ids() -> tuple[int, int]:
    """The ids by which the kernel checks what is done with files (proc_pid_status(5))."""
    lines = Path("/proc/thread-self/status").read_text().splitlines()
    uid, gid = (line.split()[4] for line in lines if line.startswith(("Uid:", "Gid:")))
    return int(uid), int(gid)


@NEEDS_ROOT
def test_what_was_done_in_anothers_name_leaves_root_as_it_was() -> None:
    groups = os.getgroups()
    with acting_as(nobody()):
        assert (*file_ids(), os.getgroups()) == (nobody().uid, nobody().gid, [nobody().gid])
        assert os.getresuid() == (0, 0, 0), (
            "nobody may not renice or pin a process that is root to all others"
        )
        with acting_as(nobody()):
            assert file_ids() == (nobody().uid, nobody().gid)
        assert file_ids() == (nobody().uid, nobody().gid)
    with contextlib.suppress(RuntimeError), acting_as(nobody()):
        raise RuntimeError
    assert (*file_ids(), os.getgroups()) == (0, 0, groups)
    assert os.getresuid() == (0, 0, 0)


@contextlib.contextmanager
def swapping(folder: Path, *targets: Path) -> Iterator[int]:
    """Another process, nobody's if we are root, that puts files, links, hard links and folders under the same names."""
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            _swap_for_ever(str(folder), [str(each) for each in targets])
        os._exit(1)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _swap_for_ever(folder: str, targets: list[str]) -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(nobody().gid)
        os.setuid(nobody().uid)
    makers: list[Callable[[str], object]] = [lambda path: os.close(os.open(path, os.O_CREAT | os.O_WRONLY))]
    for target in targets:
        makers += [
            lambda path, target=target: os.symlink(target, path),  # type: ignore[misc]
            lambda path, target=target: os.link(target, path),  # type: ignore[misc]
        ]
    aside, names = f"{folder}/aside", ("a.log", "pid", "socket")
    while True:
        for make in makers:
            for name in names:
                with contextlib.suppress(OSError):
                    make(aside)
                    os.rename(aside, f"{folder}/{name}")
                for draft in os.listdir(folder):
                    if draft.startswith("."):
                        with contextlib.suppress(OSError):
                            make(aside)
                            os.rename(aside, f"{folder}/{draft}")
        with contextlib.suppress(OSError):
            os.rename(f"{folder}/sub", f"{folder}/sub.away")
            os.symlink(os.path.dirname(targets[0]), f"{folder}/sub")
        with contextlib.suppress(OSError):
            os.unlink(f"{folder}/sub")
            os.rename(f"{folder}/sub.away", f"{folder}/sub")


@NEEDS_ROOT
def test_whoever_swaps_names_meanwhile_gets_nothing_of_roots(
    theirs: Path, precious: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for name in ("a.log", "pid"):
        (own / name).write_text("own\n")
    (theirs / "sub").mkdir()
    os.chown(theirs / "sub", nobody().uid, nobody().gid)
    targets = (own / "a.log", precious)
    outcomes = {True: 0, False: 0}
    until = time.monotonic() + RACE_SECONDS
    with swapping(theirs, *targets):
        for count in range(ROUNDS):
            for act in (_append_there, _replace_there, _give_there):
                is_done = True
                try:
                    act(theirs / "sub" if count % 3 == 0 else theirs)
                except OSError:
                    is_done = False
                outcomes[is_done] += 1
            if time.monotonic() > until:
                break
    assert outcomes[True] > 50, outcomes
    assert outcomes[False] > 50, outcomes
    assert untouched(precious)
    assert [(each.name, each.read_text(), each.stat().st_uid) for each in sorted(own.iterdir())] == [
        ("a.log", "own\n", 0), ("pid", "own\n", 0),
    ]  # fmt: skip


def _append_there(folder: Path) -> None:
    append(folder / "a.log", writer=nobody())


def _replace_there(path: Path) -> None:
    with Folder.open(path, writer=nobody()) as folder:
        os.close(folder.put("pid", b"7\n"))
        folder.remove("pid", inode=folder.inode("pid"))


def _give_there(path: Path) -> None:
    """As a listener's socket is given to the workers' user."""
    with (
        Folder.open(path, writer=nobody()) as folder,
        acting_as(nobody()),
        held(folder, "socket") as (inode, _),
    ):
        os.chmod(inode, 0o666)


def test_a_file_is_opened_for_whatever_was_asked(tmp_path: Path) -> None:
    fd = open_file(str(tmp_path / "new"), os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode=0o600)
    assert not os.get_inheritable(fd)
    assert os.get_blocking(fd)
    os.close(fd)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        open_file(str(tmp_path / "new"), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
