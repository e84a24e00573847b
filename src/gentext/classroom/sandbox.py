"""A process of its own for a submission, with limits, and as closed as the system allows.

    always           wall clock, memory, size of files, number of processes, an empty home, a clean environment; the
                     whole family of processes is ended at the end
    where Linux has  namespaces: no network, processes of its own, folders with tests and other submissions hidden
    user namespaces  all files read-only but those of its home

`Sandbox` is the grader's side. This file is also the program of the new process: run as a script it imports nothing but
the standard library, confines itself while it has one thread, and becomes `gentext.classroom.worker`.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

CLONE = {"mount": 0x00020000, "ipc": 0x08000000, "user": 0x10000000, "process": 0x20000000, "network": 0x40000000}
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
MS_RDONLY, MS_BIND, MS_REC, MS_PRIVATE = 1, 0x1000, 0x4000, 1 << 18
HOME_MB = 256  # that a submission may write in all
SYS_MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY = 442, -100, 0x8000, 1  # the same number on all processors


@dataclass(frozen=True)
class Limits:
    """seconds: for all of a submission; memory_mb: of its processes together; file_mb: of one file that it writes."""

    seconds: float = 300.0
    cell_seconds: float = 60.0
    memory_mb: int = 4096
    file_mb: int = 64
    processes: int = 32

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not value > 0:
                raise ValueError(f"{name} must be positive, got {value}")


# ---- in the new process ----------------------------------------------------------------------------------------------


def confine(plan: str) -> list[str]:
    """Limit this process for good, and say what else the system allowed. plan: JSON, limits and what to hide."""
    wanted = json.loads(plan)
    limits = Limits(**wanted["limits"])
    guards = separate(wanted["hide"]) if sys.platform == "linux" else []
    megabyte = 1 << 20
    for kind, value in (
        (resource.RLIMIT_FSIZE, limits.file_mb * megabyte),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_DATA, limits.memory_mb * megabyte),
    ):
        lower(kind, value)
    if "processes" in guards:  # counted within the namespace; elsewhere it would count all that this user runs
        lower(resource.RLIMIT_NPROC, limits.processes)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a file that grows too long is an error, not the end
    return guards


def lower(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def separate(hide: list[str]) -> list[str]:
    """Namespaces: a user without rights outside, no network, a process tree that dies with its first."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # end with the grader
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    user, group = os.getuid(), os.getgid()
    flags = CLONE["user"] | CLONE["network"] | CLONE["ipc"] | CLONE["mount"] | CLONE["process"]
    if libc.unshare(flags):
        return []  # not allowed here; the other limits hold
    stay_who_we_are(user, group)
    guards = ["network", "processes"]
    if not libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None):
        guards += ["writing outside its home"] if protect(libc, os.getcwd()) else []
        hidden = [cover(libc, os.fsencode(place), os.path.isdir(place)) for place in hide]
        guards += ["tests and other submissions"] if hidden and all(hidden) else []
    become_first(libc)
    if not libc.unshare(CLONE["user"] | CLONE["mount"]):  # what was mounted before cannot be taken away from in here
        stay_who_we_are(user, group)
    read_only(libc, b"/proc")  # its settings too are a file system's
    return guards


def cover(libc: ctypes.CDLL, place: bytes, is_folder: bool) -> bool:
    """Put an empty folder, or an empty file, over one that must not be read."""
    if is_folder:
        return not libc.mount(b"none", place, b"tmpfs", MS_RDONLY, b"size=4k")
    return not libc.mount(b"/dev/null", place, None, MS_BIND, None)


def protect(libc: ctypes.CDLL, home: str) -> bool:
    """Make every file system read-only but `home` (Linux 5.12 and later). Whoever grades as root needs it most."""
    where = os.fsencode(home)
    if libc.mount(b"none", where, b"tmpfs", 0, b"size=%dm" % HOME_MB):  # which cannot fill the disk
        return False
    os.chdir(home)  # into the new file system, out of the folder below it

    # /proc stays open a little longer: who we are in the second namespace is written there.
    return (
        read_only(libc, b"/", AT_RECURSIVE) and read_only(libc, where, on=False) and read_only(libc, b"/proc", on=False)
    )


def read_only(libc: ctypes.CDLL, path: bytes, flags: int = 0, on: bool = True) -> bool:
    add, remove = (MOUNT_ATTR_RDONLY, 0) if on else (0, MOUNT_ATTR_RDONLY)
    attributes = (ctypes.c_uint64 * 4)(add, remove, 0, 0)  # struct mount_attr
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    return not libc.syscall(SYS_MOUNT_SETATTR, AT_FDCWD, path, flags, ctypes.byref(attributes), size)


def stay_who_we_are(user: int, group: int) -> None:
    """The same numbers inside the new user namespace as outside."""
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        Path(f"/proc/self/{name}").write_text(text)


def become_first(libc: ctypes.CDLL) -> None:
    """Go on in a child, the first process of the new namespace; this one waits, and ends as the child ends."""
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() not in (0, parent):
            os._exit(1)
        os.setsid()  # a group of its own: what it sends to its group reaches nobody outside
        return
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        os._exit(128 + os.WTERMSIG(status))
    os._exit(os.WEXITSTATUS(status))


# ---- the grader's side -----------------------------------------------------------------------------------------------


RUNNING: set[Sandbox] = set()


def end_all() -> None:
    """End every submission that is running, whichever thread waits for it."""
    for sandbox in list(RUNNING):
        sandbox.kill()


class Sandbox:
    """Starts the worker, watches it, and ends it with all its children.

    Attributes:
        inward, outward: file descriptors, to read its messages from and to write to it without blocking.
    """

    def __init__(self, limits: Limits, hide: tuple[str, ...] = ()) -> None:
        self.limits, self.hide = limits, [place for place in hide if Path(place).exists()]
        self._checked = 0.0

    def __enter__(self) -> Sandbox:
        self.home = tempfile.mkdtemp(prefix="gentext-grade-")
        their_in, self.outward = os.pipe()
        self.inward, their_out = os.pipe()
        os.set_blocking(self.outward, False)
        plan = json.dumps({"limits": asdict(self.limits), "hide": self.hide})
        command = [sys.executable, "-P", __file__, str(their_in), str(their_out), plan]
        self.process = subprocess.Popen(
            command,
            cwd=self.home,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(their_in, their_out),
            start_new_session=True,
        )
        os.close(their_in)
        os.close(their_out)
        RUNNING.add(self)
        return self

    def environment(self) -> dict[str, str]:
        """Nothing of the grader's but where programs are."""
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": self.home,
            "TMPDIR": self.home,
            "LANG": "C.UTF-8",
            "MPLBACKEND": "Agg",
            "MPLCONFIGDIR": self.home,
            "IPYTHONDIR": self.home,
            "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "PASSIVE",
            "TQDM_DISABLE": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "GENTEXT_GRADING": "1",
        }

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        RUNNING.discard(self)
        self.kill()
        os.close(self.inward)
        os.close(self.outward)
        shutil.rmtree(self.home, ignore_errors=True)

    def kill(self) -> None:
        """End the process, its children and theirs, wherever they went."""
        family = descendants(self.process.pid)
        for number in (self.process.pid, *family):
            try:
                os.kill(number, signal.SIGKILL)
            except ProcessLookupError:
                pass
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        self.process.wait()

    def excess(self) -> tuple[str, str] | None:
        """What limit the whole family breaks, if any: a status and a reason. Looked at five times a second."""
        if time.monotonic() - self._checked < 0.2:
            return None
        self._checked = time.monotonic()
        family = [self.process.pid, *descendants(self.process.pid)]
        if len(family) > self.limits.processes + 2:
            return "too many processes", f"it started more than {self.limits.processes} processes"
        used = sum(resident_mb(number) for number in family)
        if used > self.limits.memory_mb:  # perhaps pages that the processes share
            used = sum(own_mb(number) for number in family)
        if used > self.limits.memory_mb:
            return "out of memory", f"it used {used:.0f} MB of memory; {self.limits.memory_mb} are allowed"
        return None

    def end(self) -> tuple[str, str]:
        """Status and reason of a process that ended by itself, or closed its pipe."""
        try:
            code = self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return "crashed", "its process closed the connection"
        code = code - 128 if code > 128 else -code if code < 0 else code
        if code == signal.SIGKILL:
            return "crashed", "its process was killed from within, or by the system for want of memory"
        known: dict[int, str] = {signal.SIGSEGV: "a segmentation fault", signal.SIGABRT: "an abort"}
        return "crashed", f"its process ended in the middle, with {known.get(code, f'exit code {code}')}"


def descendants(root: int) -> list[int]:
    """Numbers of all processes below `root`, as /proc has them; empty where there is none."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = entry.read_text(errors="replace")
        except OSError:
            continue
        parent = int(text.rpartition(")")[2].split()[1])
        children.setdefault(parent, []).append(int(entry.parent.name))
    found, waiting = [], [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def resident_mb(number: int) -> float:
    try:
        pages = int(Path(f"/proc/{number}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0.0
    return pages * resource.getpagesize() / 2**20


def own_mb(number: int) -> float:
    """Memory of a process, each page that several share counted in parts; slower than `resident_mb`."""
    try:
        text = Path(f"/proc/{number}/smaps_rollup").read_text()
    except OSError:
        return resident_mb(number)
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) / 1024


if __name__ == "__main__":
    import runpy

    sys.argv[3] = json.dumps(confine(sys.argv[3]))
    runpy.run_module("gentext.classroom.worker", run_name="__main__", alter_sys=True)
