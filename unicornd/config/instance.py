"""Which fleet is meant, and where its control socket is.

Used by the arbiter, which opens the socket, and by every command of `unicornctl`, predicates included: standard
library only, and no models. Both sides compute the same names from the same facts.
"""

from __future__ import annotations

import binascii
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SYSTEM_FOLDER = "/run/unicornd"
ABSTRACT_PREFIX = "@unicornd/"
SPARE_MARK = "~"
"""Between an abstract name that a stranger holds and what makes another one of it; in no instance's name."""
NAME_DIGITS = 6
MAX_NAME = 64
MODULE_PREFIX, FILE_PREFIX = "python:", "file:"
"""Of a Python configuration, as gunicorn has them."""
UNIX_SOCKETS = Path("/proc/net/unix")
"""All Unix sockets (proc(5))."""


_PYTHON_NAMES = {"name": "proc_name", "socket": "control_socket"}
"""What gunicorn calls the two keys that are looked for here."""


def instance_of_config(file: Path) -> str:
    """Return the instance's name for a configuration file: `process.name`, or its folder and a digest of its path."""
    name = _said_in(file, "process", key="name")
    return name or instance_of_path(file)


def instance_of_path(file: Path) -> str:
    """Return the name of an instance that has none of its own: `shop-3fa2c1`.

    By the path as it was said: a symbolic link in it may lead to another release tomorrow, of the same instance.
    """
    path = as_said(file)
    return f"{_plain(path.parent.name)}-{_digest(str(path))}"


def as_said(file: Path) -> Path:
    """Return the absolute path of a file by the names that were said: symbolic links are followed at each use.

    With `..` in it, it is resolved: what is above a link depends on where that leads.
    """
    path = file if file.is_absolute() else working_folder() / file
    return path.resolve() if ".." in path.parts else path


def working_folder() -> Path:
    """Return the working directory by the name under which it was entered (`PWD`); it may be gone by now.

    getcwd(3) has the name without symbolic links, and none once the directory has been removed.
    """
    entered = os.environ.get("PWD", "")
    try:
        folder = os.getcwd()  # noqa: PTH109 - a predicate is in a hurry
    except FileNotFoundError:
        return Path(entered or "/")
    if entered.startswith("/") and os.path.realpath(entered) == folder:
        return Path(entered)
    return Path(folder)


def instance_of_target(target: str, folder: Path) -> str:
    """Return the name of an instance without a configuration file: by what is served, and where from."""
    module = target.partition(":")[0].removesuffix(".py").rpartition("/")[2]
    return f"{_plain(module)}-{_digest(f'{folder} {target}')}"


def drop_ins(file: Path) -> list[Path]:
    """Return the files that are read after `file`: `unicornd.d/*.toml` beside `unicornd.toml`, by name.

    Not those that begin with a dot: editors and our own drafts are called so.
    """
    return sorted(path for path in file.with_suffix(".d").glob("*.toml") if not path.name.startswith("."))


def control_socket_candidates(
    environ: Mapping[str, str], *, uid: int, instance: str, system_folder: str = SYSTEM_FOLDER
) -> tuple[str, ...]:
    """Return where an instance's control socket may be, best place first; a name with `@` is abstract.

    The runtime directory that systemd gives a service, the user's own, the system's, and at last none: anybody may take
    an abstract name, so root, who can have the system's folder, has none unless that folder cannot be made. Root leaves
    another user's runtime directory out (`sudo -E`): what is there is that user's to change.
    """
    places = []
    if folder := environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]:
        places += [f"{folder}/{instance}.sock"] if _is_fit(folder, uid) else []
    if folder := environ.get("XDG_RUNTIME_DIR", ""):
        places += [f"{folder}/unicornd/{instance}.sock"] if _is_fit(folder, uid) else []
    places.append(f"{system_folder}/{instance}.sock")
    if uid == 0 and _can_have(system_folder):
        return tuple(places)
    return (*places, f"{ABSTRACT_PREFIX}{uid}/{instance}")


def _can_have(folder: str) -> bool:
    """Whether we may write in a folder, or make it."""
    place = folder if os.path.isdir(folder) else os.path.dirname(folder)  # noqa: PTH112, PTH120 - texts
    return os.access(place, os.W_OK | os.X_OK)


def socket_of_config(file: Path) -> str | None:
    """Return `control.socket` of a configuration file and its drop-ins, or None if it is not said."""
    said = _said_in(file, "control", key="socket")
    if said is None or said.startswith("@"):
        return said
    return os.path.normpath(file.resolve().parent / said)


def running_sockets(environ: Mapping[str, str], uid: int, *, table: Path = UNIX_SOCKETS) -> list[str]:
    """Return the addresses of control sockets that are listened on, in the places where instances put them."""
    folders = [SYSTEM_FOLDER]
    folders += [f"{folder}/unicornd" for folder in (environ.get("XDG_RUNTIME_DIR", ""),) if folder]
    folders += [folder for folder in environ.get("RUNTIME_DIRECTORY", "").split(":") if folder]
    folders = [folder for folder in folders if _is_fit(folder.removesuffix("/unicornd"), uid)]
    found = dict.fromkeys(
        name
        for name in _listening(table)
        if _is_ours(name, folders) or name.startswith(f"{ABSTRACT_PREFIX}{uid}/")
    )
    return sorted(found)


def _is_fit(folder: str, uid: int) -> bool:
    """Whether a runtime directory may be ours: root uses no other user's; one that is not there yet is nobody's."""
    try:
        return uid != 0 or os.stat(folder).st_uid == 0  # noqa: PTH116 - predicates are in a hurry
    except OSError:
        return True


def _is_ours(name: str, folders: list[str]) -> bool:
    """A socket in one of the folders, or in a folder below it (`/run/unicornd/shop/…` of a template unit)."""
    parent, _, file = name.rpartition("/")
    return file.endswith(".sock") and (parent in folders or parent.rpartition("/")[0] in folders)


def sockets_of_others(instance: str, uid: int, *, table: Path = UNIX_SOCKETS) -> dict[str, int]:
    """Return the addresses at which instances of that name listen that other users have started, and whose they seem to be."""
    form = re.compile(
        rf"{ABSTRACT_PREFIX}([0-9]{{1,10}})/{re.escape(instance)}(?:{SPARE_MARK}[0-9a-f]+)?"
        rf"|/run/user/([0-9]{{1,10}})/unicornd/{re.escape(instance)}\.sock"
    )
    found = (form.fullmatch(name) for name in _listening(table))
    owners = {match[0]: int(match[1] or match[2]) for match in found if match is not None}
    return {address: owner for address, owner in sorted(owners.items()) if owner != uid}


def state_log(environ: Mapping[str, str], instance: str) -> str:
    """Return the log of a daemon that has neither a log file nor a runtime directory: in the user's state folder.

    XDG Base Directory Specification: $XDG_STATE_HOME, else ~/.local/state, is for logs. Empty: there is no home.
    """
    home = environ.get("XDG_STATE_HOME", "") or os.path.join(os.path.expanduser("~"), ".local/state")  # noqa: PTH111, PTH118
    return f"{home}/unicornd/{instance}.log" if home.startswith("/") else ""


def spare_name(address: str) -> str:
    """Return another abstract name for the same instance, which nobody can have taken before."""
    return f"{address}{SPARE_MARK}{os.urandom(6).hex()}"


def spare_names(address: str, *, table: Path = UNIX_SOCKETS) -> list[str]:
    """Return the abstract names that somebody listens on in place of `address`."""
    return sorted({name for name in _listening(table) if name.startswith(f"{address}{SPARE_MARK}")})


def is_python(file: Path) -> bool:
    """Whether `-c FILE` names a Python file or module, as gunicorn has them."""
    return file.suffix == ".py" or str(file).startswith((MODULE_PREFIX, FILE_PREFIX))


def named_file(text: str, *, folder: Path) -> Path:
    """Return what `-c` names: a file, relative to the folder, or `python:MODULE` or `file:PATH` as it is."""
    return Path(text) if text.startswith((MODULE_PREFIX, FILE_PREFIX)) else folder / text


def _listening(table: Path) -> Iterator[str]:
    """Yield the names of all Unix sockets that somebody listens on; none where the kernel does not tell."""
    accepts = 0x10000  # __SO_ACCEPTCON
    try:
        lines = table.read_text(encoding="utf-8", errors="surrogateescape").splitlines()[1:]
    except OSError:
        return
    for line in lines:
        fields = line.split(maxsplit=7)
        if len(fields) == 8 and int(fields[3], 16) & accepts:  # noqa: PLR2004 - the eighth is the name
            yield fields[7]


def _said_in(file: Path, section: str, *, key: str) -> str | None:
    """Return a text of a file or its drop-ins, the last one that says it; None where nothing can be read."""
    import tomllib  # noqa: PLC0415 - the arbiter asks for nothing here

    is_python = file.suffix == ".py"
    found = _said_in_python(file, _PYTHON_NAMES[key]) if is_python else None
    for path in (*(() if is_python else (file,)), *drop_ins(file)):
        try:
            table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        value = table.get(section, {}).get(key) if isinstance(table.get(section), dict) else None
        found = value if isinstance(value, str) else found
    return found


def _said_in_python(file: Path, name: str) -> str | None:
    """Return a text that a gunicorn.conf.py sets, if it stands there as one: nothing is run for a question."""
    import ast  # noqa: PLC0415 - most files are TOML, and a predicate has little time

    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return None
    found = None
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=target)], value=ast.Constant(value=str(text))) if (
                target == name
            ):
                found = text.strip()
            case _:
                pass
    return (fitting_name(found) or None) if found and name == _PYTHON_NAMES["name"] else found


def fitting_name(text: str) -> str:
    """Return what `process.name` may be, as near to `text` as it can: letters, digits, dots, hyphens; may be empty."""
    kept = "".join(
        character if character.isascii() and (character.isalnum() or character in "._-") else "-"
        for character in text.strip()
    )
    return kept.lstrip("._-")[:MAX_NAME].rstrip("-")


def _plain(name: str) -> str:
    kept = "".join(character if character.isalnum() or character in "._" else "-" for character in name)
    return kept.strip("-.") or "app"


def _digest(text: str) -> str:
    # A checksum will do to tell places apart, and loading OpenSSL would take a tenth of a predicate's time.
    return f"{binascii.crc32(text.encode('utf-8', 'surrogateescape')):08x}"[:NAME_DIGITS]
