"""A real systemd for tests: PID 1 of namespaces of its own, with the shipped units, booted in half a second.

It needs root. Inside, `/opt/unicornd` is this project with its Python, `/srv/app` is the test's folder, `/run`, `/tmp`,
`/opt` and `/srv` are private, so is the network, and the rest of the machine cannot be written. Whatever runs inside dies
with the lab; nothing of it is left.
"""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import itertools
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.waiting import eventually
from unicornd.control.client import Client, ControlError

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(__file__).parent.parent.parent
UNITS = SOURCE / "systemd"
CGROUPS = Path("/sys/fs/cgroup")
SYSTEMD = "/lib/systemd/systemd"
CLONE_NEWNET = 0x40000000
"""linux/sched.h."""
BOOT_PATIENCE = 30.0
COMMAND_TIMEOUT = 90.0
CLIENT_TIMEOUT = 20.0
NUMBERS = itertools.count(1)

ENTER = """\
for group in $GROUPS_OF_LAB; do echo $$ >"$group/cgroup.procs"; done
exec unshare --fork --kill-child --pid --mount --uts --ipc --cgroup --net --mount-proc sh -euc "$INIT"
"""

INIT = """\
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system /run/lock /run/kept/python /run/kept/packages /run/kept/source /run/kept/app /run/kept/books
mount --rbind "$PYTHON" /run/kept/python
mount --bind "$PACKAGES" /run/kept/packages
mount --bind "$SOURCE" /run/kept/source
mount --bind "$APP" /run/kept/app
mount --bind "$BOOKS" /run/kept/books
mount -o remount,bind,ro /
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
for place in /tmp /var/tmp /opt /srv; do mount -t tmpfs -o mode=1777 tmpfs $place; done
for part in python packages source; do
  mkdir -p /opt/unicornd/$part
  mount --rbind /run/kept/$part /opt/unicornd/$part
done
mkdir /srv/app
mount --bind /run/kept/app /srv/app
cp -r /run/kept/books/bin /opt/unicornd/bin
cp /run/kept/books/units/* /run/systemd/system/
ip link set lo up
if [ -e /dev/kmsg ]; then mount --bind /run/kept/books/console /dev/kmsg; fi
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  umount -l /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup
else
  # Its own hierarchies and no others: systemd would use the machine's controllers.
  mount -t tmpfs tmpfs /sys/fs/cgroup
  mkdir /sys/fs/cgroup/unified /sys/fs/cgroup/systemd
  mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
  mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
  mount -o remount,ro /sys/fs/cgroup
fi
exec env -i container=lab PATH="$PATH" SYSTEMD_UNIT_PATH=/run/systemd/system "$SYSTEMD" --system --unit=lab.target \\
  --log-target=kmsg --log-level=info --show-status=no
"""

PROGRAM = """\
#!/bin/sh
export PYTHONPATH=/opt/unicornd/source:/opt/unicornd/packages PYTHONDONTWRITEBYTECODE=1
export LD_LIBRARY_PATH=/opt/unicornd/python/lib
exec /opt/unicornd/python/bin/{python} -c \\
  'import sys; from unicornd.cli.{module} import main; sys.argv[0] = "{name}"; sys.exit(main())' "$@"
"""
"""What an installed program does, for a Python that may live in somebody's home."""

TARGETS = ("lab", "sysinit", "basic", "sockets", "network", "multi-user", "shutdown")
TARGET = "[Unit]\nDescription={name}\nDefaultDependencies=no\n"
"""The machine's own units are not seen by the lab: they would do to the machine what they do at its boot."""

PATHS = """\
[Service]
ExecStart=
ExecStart=/opt/unicornd/bin/unicornd --config /srv/app/unicornd.toml
ExecReload=
ExecReload=/opt/unicornd/bin/unicornctl --config /srv/app/unicornd.toml reload
StandardOutput=append:/srv/app/log
StandardError=append:/srv/app/log
"""
"""What the lab changes of the shipped service: where the configuration is, and where output goes (no journal)."""


class Lab:
    """A machine with systemd.

    Args:
        app: the folder that is `/srv/app` inside.

    Attributes:
        app: the same; `log` in it is what the service writes.
        console: what systemd itself says.
    """

    def __init__(self, app: Path) -> None:
        self.app = app
        self.app.chmod(0o755)
        self._books = Path(tempfile.mkdtemp(prefix="unicornd-lab-"))
        self.console = self._books / "console"
        self._groups: list[Path] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = 0
        self._threads = ThreadPoolExecutor(max_workers=1)

    def boot(self, *, drop_in: str = "", socket_drop_in: str = "") -> None:
        """Boot with the shipped units; the drop-ins come after the lab's own."""
        units, bin_folder = self._books / "units", self._books / "bin"
        units.mkdir()
        bin_folder.mkdir()
        for name in TARGETS:
            (units / f"{name}.target").write_text(TARGET.format(name=name))
        for unit in UNITS.iterdir():
            shutil.copy(unit, units)
        python = f"python{sys.version_info.major}.{sys.version_info.minor}"
        for name, module in (("unicornd", "daemon"), ("unicornctl", "ctl")):
            program = bin_folder / name
            program.write_text(PROGRAM.format(python=python, module=module, name=name))
            program.chmod(0o755)
        self._start()
        eventually(self._is_up, f"systemd is up:\n{self.console.read_text()}", patience=BOOT_PATIENCE)
        namespace = os.open(f"/proc/{self._pid}/ns/net", os.O_RDONLY)
        # Sockets stay in the namespace of the thread that made them, whoever uses them.
        self._threads = ThreadPoolExecutor(max_workers=1, initializer=_enter, initargs=(namespace,))
        self._threads.submit(os.close, namespace).result()
        self.drop_in("unicornd.service", PATHS + drop_in)
        self.drop_in("unicornd.socket", socket_drop_in)

    def drop_in(self, unit: str, text: str) -> None:
        """Write a drop-in for a unit, in place of the one before, and have it read."""
        folder = self.root / "run/systemd/system" / f"{unit}.d"
        folder.mkdir(exist_ok=True)
        (folder / "lab.conf").write_text(text)
        self.systemctl("daemon-reload")

    @property
    def root(self) -> Path:
        """The lab's root folder, seen from outside."""
        return Path(f"/proc/{self._pid}/root")

    @property
    def log(self) -> str:
        file = self.app / "log"
        return file.read_text() if file.exists() else ""

    def run(self, *command: str, expect: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run a command inside as root, and demand its exit code (None: any)."""
        done = subprocess.run(
            ["nsenter", "--target", str(self._pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", *command],
            capture_output=True, text=True, timeout=COMMAND_TIMEOUT, check=False,
        )  # fmt: skip
        assert expect is None or done.returncode == expect, (
            f"{command} → {done.returncode}\n{done.stdout}{done.stderr}\n{self.log}\n{self.console.read_text()}"
        )
        return done

    def systemctl(self, *arguments: str, expect: int | None = 0) -> str:
        return self.run("systemctl", *arguments, expect=expect).stdout

    def show(self, name: str, unit: str = "unicornd.service") -> str:
        """Return a property of a unit."""
        return self.systemctl("show", "--value", "--property", name, unit).strip()

    def status(self) -> dict[str, Any]:
        """Ask the fleet called `shop` over its control socket in its runtime directory."""
        return Client(address=f"{self.root}/run/unicornd/shop.sock").get("/v1/status")

    def await_state(self, state: str) -> None:
        def is_reached() -> bool:
            with contextlib.suppress(ControlError):
                return bool(self.status()["state"] == state)
            return False

        eventually(is_reached, f"the fleet is {state}:\n{self.log}")

    def connect(self, port: int = 8000) -> http.client.HTTPConnection:
        """Return a connection to a port of the lab, not yet opened."""
        return LabConnection(self, port)

    def new_socket(self) -> socket.socket:
        """Return a TCP socket of the lab's network."""
        return self._threads.submit(socket.socket).result()

    def get(self, path: str = "/", port: int = 8000) -> str:
        """Ask once and return the body of the 200 that must come."""
        with contextlib.closing(self.connect(port)) as connection:
            connection.request("GET", path, headers={"Connection": "close"})
            response = connection.getresponse()
            body = response.read().decode()
            assert response.status == http.client.OK, body
            return body

    def processes(self, unit: str = "unicornd.service") -> list[int]:
        """Return the pids (as seen inside) of all processes in a unit's control group."""
        group = self.show("ControlGroup", unit)
        listed = self.run(
            "sh",
            "-c",
            f"cat /sys/fs/cgroup/unified{group}/cgroup.procs /sys/fs/cgroup{group}/cgroup.procs",
            expect=None,
        )
        return sorted(int(pid) for pid in listed.stdout.split()) if group else []

    def close(self) -> None:
        """Switch it off."""
        if self._process is not None:
            self._process.kill()  # unshare takes PID 1 with it, and PID 1 everybody else
            self._process.wait(timeout=BOOT_PATIENCE)
            self._threads.shutdown()
        for group in self._groups:
            eventually(lambda group=group: _is_removed(group), f"the lab's control group {group} is empty")  # type: ignore[misc]
        shutil.rmtree(self._books)

    def _start(self) -> None:
        name = f"unicornd-lab-{os.getpid()}-{next(NUMBERS)}"
        for hierarchy in hierarchies():
            group = hierarchy / name
            group.mkdir()
            self._groups.append(group)
        environ = {
            **os.environ,
            "GROUPS_OF_LAB": " ".join(str(group) for group in self._groups),
            "INIT": INIT,
            "PYTHON": sys.base_prefix,
            "PACKAGES": sysconfig.get_path("purelib"),
            "SOURCE": str(SOURCE),
            "APP": str(self.app),
            "BOOKS": str(self._books),
            "SYSTEMD": SYSTEMD,
        }
        with self.console.open("wb") as console:
            self._process = subprocess.Popen(
                ["sh", "-euc", ENTER], env=environ, stdin=subprocess.DEVNULL, stdout=console, stderr=console
            )

    def _is_up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.console.read_text()
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        if not children:
            return False
        self._pid = int(children[0])
        if Path(f"/proc/{self._pid}/comm").read_text().strip() != "systemd":
            return False
        return self.run("systemctl", "is-system-running", expect=None).stdout.strip() in {
            "running",
            "degraded",
        }


class LabConnection(http.client.HTTPConnection):
    """http.client inside the lab."""

    def __init__(self, lab: Lab, port: int) -> None:
        super().__init__("127.0.0.1", port, timeout=CLIENT_TIMEOUT)
        self._lab = lab

    def connect(self) -> None:
        self.sock = self._lab.new_socket()
        self.sock.settimeout(CLIENT_TIMEOUT)
        self.sock.connect((self.host, self.port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def hierarchies() -> list[Path]:
    """Return the control group hierarchies that systemd wants to have for itself."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    return [CGROUPS / "systemd", CGROUPS / "unified"]


def why_not() -> str:
    """Return why this machine cannot have a lab; empty if it can."""
    if os.geteuid() != 0:
        return "systemd in namespaces needs root"
    unshared = subprocess.run(
        ["unshare", "--fork", "--pid", "--mount", "--uts", "--ipc", "--cgroup", "--net", "--mount-proc", "true"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if unshared.returncode != 0:
        return f"namespaces are refused: {unshared.stderr.strip()}"
    for hierarchy in hierarchies():
        group = hierarchy / f"unicornd-probe-{os.getpid()}"
        try:
            group.mkdir()
            group.rmdir()
        except OSError as error:
            return f"control groups are refused: {error}"
    return ""


@contextlib.contextmanager
def lab_of(app: Path) -> Iterator[Lab]:
    """Give a lab that is not booted yet; switch it off afterwards."""
    lab = Lab(app)
    try:
        yield lab
    finally:
        lab.close()


def _enter(namespace: int) -> None:
    """Move the calling thread to a network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _is_removed(group: Path) -> bool:
    """Remove a control group and what is below it, as far as nobody is in there any more."""
    if not group.exists():
        return True
    for folder in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
        with contextlib.suppress(OSError):
            folder.rmdir()
    with contextlib.suppress(OSError):
        group.rmdir()
    return not group.exists()
