"""Which fleet a command is about: `-c FILE`, `--socket`, `--instance`, the file in this directory, or the only one.

That file is `unicornd.toml`, else `gunicorn.conf.py`; "the only one" is of those that run.

Runs in the command's process, for predicates too: standard library only. The first answer counts; what is named and
does not run is an error, never a reason to take another one. Nothing is changed of a fleet that only happens to run:
whoever changes one has named it, or is asked (`cli.session`).
"""

from __future__ import annotations

import glob
import os
import sys
from pathlib import Path
from typing import NamedTuple

from unicornd.config.instance import (
    SPARE_MARK,
    control_socket_candidates,
    instance_of_config,
    running_sockets,
    socket_of_config,
    sockets_of_others,
    state_log,
)
from unicornd.control.answerer import user_name
from unicornd.control.client import Client, ControlError, StrangerError, may_answer, search_abstract
from unicornd.errors import CtlExit
from unicornd.escaping import one_line

CONFIG_NAME = "unicornd.toml"
CONFIG_NAMES = (CONFIG_NAME, "gunicorn.conf.py")
"""What is looked for in this directory, as `unicornd` does."""

MAX_TOLD = 3
"""Strangers that are named in an error: there may be as many as somebody likes."""


class Choice(NamedTuple):
    """What was said on the command line (a NamedTuple, to start fast)."""

    config: str = ""
    socket: str = ""
    instance: str = ""

    def config_file(self) -> Path | None:
        """Return the configuration file that is meant: the named one, or the one in this directory."""
        if self.config:
            return Path(self.config)
        if self.socket or self.instance:
            return None
        return next((Path(name) for name in CONFIG_NAMES if Path(name).exists()), None)


class Found(NamedTuple):
    """A client for the fleet that is meant; `is_guessed` if nobody has named it and it is the only one that runs."""

    client: Client
    is_guessed: bool


def find_fleet(choice: Choice) -> Found:
    """Return the one fleet that is meant, and whether that was a guess.

    Raises:
        ControlError: it does not run, cannot be reached, or it is not clear which one is meant.
    """
    if not choice.socket and not choice.instance and choice.config_file() is None:
        return Found(_only_one(), is_guessed=True)
    return Found(_named(choice), is_guessed=False)


def find_client(choice: Choice) -> Client:
    """Return a client for the fleet to be looked at; one that was guessed is named on stderr.

    Raises:
        ControlError: it does not run, cannot be reached, or it is not clear which one is meant.
    """
    found = find_fleet(choice)
    if found.is_guessed:
        tell_guess(found)
    return found.client


def tell_guess(found: Found) -> None:
    """Say on stderr which fleet is looked at, since nobody has named one."""
    sys.stderr.write(f"of the only fleet that runs: {one_line(how_to_name(found.client.address))}\n")


def _named(choice: Choice) -> Client:
    """Return a client for the fleet that options or the file in this directory name.

    Raises:
        ControlError: it does not run, cannot be reached, or it is not clear which one is meant.
    """
    if choice.socket:
        return Client(address=choice.socket)
    if choice.instance:
        return _answering(_places_of(choice.instance), name=choice.instance, instance=choice.instance)
    file = choice.config_file()
    assert file is not None  # noqa: S101 - `find_fleet` has looked; tells the type checker
    return client_of_config(file)


def log_beside(choice: Choice) -> str | None:
    """Return the log that a daemon without a log file has left beside its control socket; None if there is none."""
    file = choice.config_file()
    name = choice.instance or (
        os.environ.get("UNICORND_PROCESS__NAME") or instance_of_config(file) if file else ""
    )
    own = (os.environ.get("UNICORND_CONTROL__SOCKET") or socket_of_config(file)) if file else None
    places = (own,) if own else _places_of(name) if name else ()
    logs = [place.removesuffix(".sock") + ".log" for place in places if place.startswith("/")]
    logs += [state_log(os.environ, name)] if name else []
    return next((log for log in logs if os.path.exists(log)), None)  # noqa: PTH110 - texts


def client_of_config(file: Path) -> Client:
    """Return a client for the fleet of a configuration file.

    Raises:
        ControlError: it does not run, or there is no such file.
    """
    try:
        file.stat()
    except OSError as error:
        raise _unreadable(file, error) from error
    own = os.environ.get("UNICORND_CONTROL__SOCKET") or socket_of_config(file)
    instance = os.environ.get("UNICORND_PROCESS__NAME") or instance_of_config(file)
    candidates = (own,) if own else _places_of(instance)
    return _answering(candidates, name=f"{instance} ({file})", instance=instance)


def _unreadable(file: Path, error: OSError) -> ControlError:
    if isinstance(error, PermissionError):
        hint = "--socket or --instance name the fleet, too, if its control socket is for you"
        return ControlError(f"{file}: permission denied", code=CtlExit.PERMISSION, hint=hint)
    return ControlError(f"{file}: {(error.strerror or str(error)).lower()}", code=CtlExit.CONFIG)


def _places_of(instance: str) -> tuple[str, ...]:
    """Return where the control socket of an instance may be, those that units make for themselves included.

    A service with `RuntimeDirectory=unicornd/shop` has it in `/run/unicornd/shop/`, which only the service itself is told.
    """
    places = control_socket_candidates(os.environ, uid=os.geteuid(), instance=instance)
    nested = [path for place in places if place.startswith("/") for path in sorted(glob.glob(_nested(place)))]  # noqa: PTH207
    last = [place for place in places if place.startswith("@")]
    return (*(place for place in places if place not in last), *nested, *last)


def _nested(place: str) -> str:
    folder, name = os.path.split(place)
    return f"{glob.escape(folder)}/*/{name if name == '*.sock' else glob.escape(name)}"


def known_names() -> dict[str, str]:
    """Return the names that `--instance` understands now, and where their fleets answer."""
    found: dict[str, str] = {}
    for address in running_addresses():
        found.setdefault(name_of_address(address), address)
    return found


def name_of_address(address: str) -> str:
    """Return the instance's name that a control socket in one of the usual places has."""
    return address.rpartition("/")[2].partition(SPARE_MARK)[0].removesuffix(".sock")


def how_to_name(address: str) -> str:
    """Return the option that names the fleet at an address: its instance, if that leads there."""
    name = name_of_address(address)
    return f"--instance {name}" if known_names().get(name) == address else f"--socket {address}"


def running_addresses(*, with_strangers: bool = False) -> list[str]:
    """Return the control sockets on this machine where unicornd may answer, or where we may not ask.

    Found by looking into the directories: a path's name is not the one that it was bound under, so the kernel's list
    is good for abstract names only.
    """
    places = control_socket_candidates(os.environ, uid=os.geteuid(), instance="*")
    nested = [_nested(place) for place in places]
    paths = [path for place in (*places, *nested) if place.startswith("/") for path in glob.glob(place)]  # noqa: PTH207
    abstract = [name for name in running_sockets(os.environ, os.geteuid()) if name.startswith("@")]
    return [
        address
        for address in dict.fromkeys((*sorted(paths), *abstract))
        if _is_held(address, with_strangers=with_strangers)
    ]


def _is_held(address: str, *, with_strangers: bool) -> bool:
    try:
        return may_answer(address, patience=0.0)
    except StrangerError:
        return with_strangers


def _answering(candidates: tuple[str, ...], *, name: str, instance: str) -> Client:
    """Return a client for the first place where unicornd answers.

    A stranger at an abstract name, which anybody may take, is passed over: the fleet may be at a spare one.
    """
    strangers: list[str] = []
    for address in candidates:
        if address.startswith("@"):
            search = search_abstract(address)
            strangers += search.strangers
            if search.address is not None:
                return Client(address=search.address)
        elif may_answer(address):
            return Client(address=address)
    others = list(sockets_of_others(instance, os.geteuid()).items())
    raise ControlError(
        f"{name} is not running{' as this user' if others else ''}",
        code=CtlExit.NOT_RUNNING,
        detail="\n".join([*strangers[:MAX_TOLD], *(_of_another(*other) for other in others[:MAX_TOLD])]),
        hint="`unicornctl start` starts it; `unicornctl ls` lists what runs",
    )


def _of_another(address: str, uid: int) -> str:
    """Return how to reach the fleet of that name that another user seems to have started."""
    user = user_name(uid)
    way = f"`sudo -u {user} unicornctl …`" if address.startswith("@") else f"--socket {address}"
    return f"user {user} has one of that name: {way} reaches it"


def _only_one() -> Client:
    running = running_addresses()
    match running:
        case [address]:
            return Client(address=address)
        case []:
            raise ControlError(
                f"nothing is running, and there is no {CONFIG_NAME} here",
                code=CtlExit.NOT_RUNNING,
                hint="`unicornctl config init` writes one, `config import` one from gunicorn's; `unicornctl start` starts it",
            )
        case _:
            raise ControlError(
                "several fleets are running: say which one",
                code=CtlExit.USAGE,
                detail="\n".join(how_to_name(address) for address in running),
                hint="`unicornctl ls` says more about them",
            )
