"""A Debian that its own systemd boots in a container, and a host on the other end of its cable.

`systemd-nspawn` runs in a mount namespace, a network namespace and a control group of its own. The
root file system is an overlay: a test changes its own upper layer and never the tree below it.
The network namespace is the host: it has one end of the cable, and clients run in it. All of this
ends with `close`, and with this process, however it ends.

`pull_plug` kills every process of the container at once. What the kernel has not written yet
survives, so this shows what a process can lose, and not what a disk can.
"""

import itertools
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from tests.kit.process import Program, Result, environment
from tests.kit.waiting import TIMEOUT_SECONDS, block_until

HOST_ADDRESS: Final = "192.0.2.1"
BOARD_ADDRESS: Final = "192.0.2.2"
_INSIDE: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
}
_NAMESPACES: Final = ("-m", "-u", "-i", "-n", "-p", "-r", "-w")
# A PID namespace ends with its first process. That one ends with `unshare`, which ends with us.
_ALONE: Final = (
    *("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--net"),
    *("--pid", "--mount-proc", "--fork", "--kill-child", "--"),
)
# Arguments: the control groups, the layers below, the folder of this container, and the command
# that boots it.
_BOOT: Final = """
for group in $1; do echo 0 >"$group/cgroup.procs"; done
ip link set lo up
mkdir -p /run/systemd/nspawn
mount -t tmpfs tmpfs /run/systemd/nspawn
mount -t overlay overlay -o "lowerdir=$2,upperdir=$3/upper,workdir=$3/work" "$3/root"
shift 3
exec "$@"
"""
_numbers = itertools.count()


class ControlGroup:
    """A control group of a container's own, in the hierarchies that systemd uses.

    Without it, two containers would share the groups of their services.
    """

    def __init__(self, name: str) -> None:
        own = [line.split(":") for line in Path("/proc/self/cgroup").read_text().splitlines()]
        paths = {kind: path for _, kind, path in own if kind in {"", "name=systemd"}}
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
        self.folders = [
            Path(f"{folder}{paths[kind]}") / name
            for _, folder, system, options, *_ in mounts
            for kind in paths
            if (system, kind) == ("cgroup2", "")
            or (system == "cgroup" and kind and kind in options.split(","))
        ]

    def create(self) -> None:
        """Create the group; a process joins it by itself."""
        for folder in self.folders:
            folder.mkdir()

    @property
    def exists(self) -> bool:
        """Whether a part of the group is left."""
        return any(folder.exists() for folder in self.folders)

    def remove(self) -> None:
        """Remove the group with all below it, as soon as its last process has ended."""
        block_until(self._was_removed)

    def _was_removed(self) -> bool:
        for top in self.folders:
            for folder, _, _ in os.walk(top, topdown=False):
                with suppress(OSError):
                    Path(folder).rmdir()
        return not self.exists


def _children(pid: int) -> list[int]:
    """The child processes of a process, or none if it has ended."""
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


class Container:
    """A container with a Debian: what a board is to its owner."""

    def __init__(self, folder: Path, layers: Sequence[Path], *, hostname: str = "board") -> None:
        """Prepare a container.

        Args:
            folder: holds the container's own files.
            layers: the folders that the root file system consists of, the topmost one first.
            hostname: its host name.
        """
        self.name = f"hf{os.getpid()}c{next(_numbers)}"
        self.folder = folder
        self.layers = [*layers]
        self.log = folder / "console"
        for part in ("upper", "work", "root"):
            (folder / part).mkdir(parents=True)
        (folder / "upper" / "etc").mkdir(mode=0o755)
        (folder / "upper" / "etc" / "hostname").write_text(f"{hostname}\n")
        self._group: ControlGroup | None = None
        self._unshare: subprocess.Popen[bytes] | None = None
        self._nspawn = self._init = 0
        self._programs: list[Program] = []

    # ------------------------------------------------------------------------------------- power

    def boot(self) -> None:
        """Boot until systemd has started everything; both ends of the cable have addresses."""
        self._group = ControlGroup(self.name)
        self._group.create()
        groups = " ".join(map(str, self._group.folders))
        nspawn = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot"]
        nspawn += ["--network-veth", f"--machine={self.name}"]
        nspawn += [f"--directory={self.folder}/root"]
        lower = ":".join(map(str, self.layers))
        with self.log.open("ab") as log:
            self._unshare = subprocess.Popen(
                [
                    *_ALONE,
                    "sh",
                    "-euc",
                    _BOOT,
                    "sh",
                    groups,
                    lower,
                    str(self.folder),
                    *nspawn,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            block_until(self._has_init)
            self._connect()
            block_until(self._has_started)
        except BaseException:
            print(self.log.read_text(errors="replace")[-4000:])
            raise

    def _has_init(self) -> bool:
        assert self._unshare is not None
        assert self._unshare.poll() is None, self.log.read_text(errors="replace")
        for nspawn in _children(self._unshare.pid):
            for child in _children(nspawn):
                with suppress(FileNotFoundError, ProcessLookupError):
                    status = Path(f"/proc/{child}/status").read_text()
                    numbers = status.partition("NSpid:")[2].partition("\n")[0].split()
                    name = Path(f"/proc/{child}/comm").read_text()
                    if name == "systemd\n" and numbers[-1] == "1":
                        self._nspawn, self._init = nspawn, child
                        return True
        return False

    def _has_started(self) -> bool:
        state = self.start("systemctl", "is-system-running", "--wait").end().out.strip()
        return state in {"running", "degraded"}  # a failed unit is for the test to see

    def _connect(self) -> None:
        near = f"ve-{self.name}"[:15]
        for process, interface, address in (
            (self._nspawn, near, HOST_ADDRESS),
            (self._init, "host0", BOARD_ADDRESS),
        ):
            ip = ["nsenter", "-t", str(process), "-n", "ip"]
            for words in (
                ["addr", "add", f"{address}/24", "broadcast", "+", "dev", interface],
                ["link", "set", interface, "up"],
            ):
                subprocess.run([*ip, *words], check=True, timeout=TIMEOUT_SECONDS)

    def power_off(self) -> None:
        """Shut it down in order."""
        os.kill(self._nspawn, signal.SIGTERM)
        self._end()

    def pull_plug(self) -> None:
        """Kill all of its processes at once."""
        os.kill(self._init, signal.SIGKILL)
        self._end()

    def close(self) -> None:
        """End what is left of it. Safe to repeat."""
        for program in self._programs:
            program.close()
        if self._unshare is not None:
            self._unshare.kill()
        self._end()

    def _end(self) -> None:
        if self._unshare is not None:
            self._unshare.wait(TIMEOUT_SECONDS)
            block_until(lambda: not Path(f"/proc/{self._init}").exists())
        if self._group is not None:
            self._group.remove()
        self._unshare = self._group = None

    # ---------------------------------------------------------------------------------- commands

    def start(self, *command: str, user: str = "root") -> Program:
        """Start a command in it."""
        inside = ["nsenter", "-t", str(self._init), *_NAMESPACES, "--"]
        if user != "root":
            inside += ["runuser", "-u", user, "--"]
        return self._track(Program([*inside, *command], _INSIDE))

    def run(self, *command: str, user: str = "root", code: int = 0) -> Result:
        """Run a command in it to its end, and check the exit code."""
        return self.start(*command, user=user).end(code=code)

    def shell(self, script: str, *, user: str = "root", code: int = 0) -> str:
        """Run a shell script in it, and return its output; its first failure is an error."""
        done = self.run("sh", "-euc", script, user=user, code=code)
        return done.out + done.err

    def put(self, source: Path, folder: str) -> str:
        """Copy a file into it, and return the path there."""
        shutil.copy(source, f"/proc/{self._init}/root{folder}")
        return f"{folder}/{source.name}"

    def copy(self, source: str, folder: Path) -> Path:
        """Copy a file out of it into a folder of this machine, and return the path."""
        return Path(shutil.copy(f"/proc/{self._init}/root{source}", folder))

    def from_host(self, *command: str) -> Program:
        """Start a command at the host's end of the cable, with the files of this machine."""
        argv = ["nsenter", "-t", str(self._nspawn), "-n", "--", *command]
        return self._track(Program(argv, environment()))

    def _track(self, program: Program) -> Program:
        for one in [one for one in self._programs if not one.is_running]:
            one.close()
            self._programs.remove(one)
        self._programs.append(program)
        return program

    # ----------------------------------------------------------------------------------- systemd

    def property_of(self, unit: str, name: str) -> str:
        """A property of a unit, as `systemctl show` prints it."""
        return self.run("systemctl", "show", "--value", "-p", name, unit).out.strip()

    def systemd_journal(self, *matches: str) -> str:
        """The journal of this boot as JSON, one entry a line."""
        return self.run("journalctl", "--boot", "--output=json", "--no-pager", *matches).out
