"""Run a guest in a box of a stated tier. Nothing of the host is in it but what is named here.

The tiers, strongest first:

* ``full``: namespaces (bubblewrap: no network, no processes of others, a file system of its own), a filter on system calls,
  Landlock where the kernel has it, bounds a process, and one bound on memory and processes for all together (cgroup).
* ``namespaces``: the same without the cgroup, where none can be made.
* ``landlock``: no namespaces, where they are forbidden: Landlock, the filter, the bounds, and a cgroup if one can be made. UDP passes,
  and processes of others are seen; without a cgroup, forks are bounded by time alone.
* ``bare``: bounds only. For scripted tests; never for code that a model wrote.
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Literal

from affectscope.errors import AffectscopeError
from affectscope.suites.sandbox import seccomp
from affectscope.suites.sandbox.cgroup import group
from affectscope.suites.sandbox.folder import size
from affectscope.suites.sandbox.limits import Killed, Limits, Ran

Tier = Literal["full", "namespaces", "landlock", "bare"]
TIERS: tuple[Tier, ...] = ("full", "namespaces", "landlock", "bare")
INSIDE = Path(__file__).with_name("inside.py")
WORK = "/w"
"""Where the work folder lies in a box of namespaces."""
_NOBODY = "65534"
LOOK = 0.1
"""Seconds between looks at how much the guest has written; what it writes in between goes beyond the bound."""
_ENV = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}


class Box:
    """A way to run guests over one work folder.

    Args:
        work: what the guest may write; it is ``/w`` inside, or its own path where there are no namespaces.
        read_only: more files or folders inside ``work`` that the guest may read and not change.
    """

    def __init__(self, work: Path, tier: Tier, limits: Limits | None = None, read_only: Sequence[str] = ()) -> None:
        self.work, self.tier, self.limits, self.read_only = work.resolve(), tier, limits or Limits(), tuple(read_only)
        self.spaces = tier in ("full", "namespaces")
        if self.spaces and shutil.which("bwrap") is None:
            raise AffectscopeError("the sandbox needs bubblewrap: `apt-get install bubblewrap`")

    def python(self, program: str, *arguments: str, stdin: bytes = b"") -> Ran:
        """Run a Python file of the work folder, named by its path in it."""
        place = f"{WORK}/{program}" if self.spaces else str(self.work / program)
        return self._run(place, arguments, stdin)

    def _run(self, program: str, arguments: Sequence[str], stdin: bytes) -> Ran:
        with ExitStack() as stack:
            bounded = self.tier in ("full", "landlock")
            folders = stack.enter_context(group(self.limits.memory, self.limits.processes)) if bounded else []
            if self.tier == "full" and not folders:
                raise AffectscopeError("no cgroup can be made here: the box is of the tier 'namespaces'")
            descriptor = -1
            if self.tier != "bare":
                descriptor = seccomp.as_descriptor()
                stack.callback(os.close, descriptor)
            command = self._command(program, arguments, descriptor)
            if folders:  # a shell enters the group and becomes the box, so that nothing ever runs outside it
                enter = 'for g in $G; do echo $$ > "$g/cgroup.procs" || exit 125; done; exec "$@"'
                command = ["/bin/sh", "-c", enter, "sh", *command]
            env = {**_ENV, "G": " ".join(map(str, folders))}
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self.work, env=env,
                pass_fds=[descriptor] if descriptor >= 0 else [], start_new_session=True,
            )  # fmt: skip
            return self._watch(process, stdin)

    def _command(self, program: str, arguments: Sequence[str], descriptor: int) -> list[str]:
        limits = self.limits
        settings = {
            "limits": {
                "RLIMIT_CPU": limits.cpu_seconds, "RLIMIT_AS": limits.memory, "RLIMIT_FSIZE": limits.file,
                "RLIMIT_NOFILE": limits.files, "RLIMIT_CORE": 0,
                **({"RLIMIT_NPROC": limits.processes} if self.spaces else {}),
            },
            "landlock": self._landlock(),
            "seccomp": descriptor if self.tier == "landlock" else None,
            "program": program,
        }  # fmt: skip
        inside = "/box/inside.py" if self.spaces else str(INSIDE)
        guest = [sys.executable if not self.spaces else _interpreter(), "-I", inside, json.dumps(settings), *arguments]
        return [*self._walls(descriptor), *guest] if self.spaces else guest

    def _landlock(self) -> dict[str, list[str]] | None:
        if self.tier == "bare" or not has_landlock():
            return None
        if self.spaces:
            return {"read": ["/"], "write": [WORK, "/tmp", "/dev"]}
        system = [p for p in ("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/dev/urandom", "/proc/self") if Path(p).exists()]  # fmt: skip
        return {"read": [*system, sys.base_prefix, sys.prefix, str(INSIDE)], "write": [str(self.work), "/dev/null"]}

    def _walls(self, descriptor: int) -> list[str]:
        """Bubblewrap with its arguments, which are the policy."""
        made = [
            "bwrap", "--unshare-user", "--unshare-all", "--disable-userns", "--die-with-parent", "--new-session", "--clearenv",
            "--cap-drop", "ALL", "--uid", _NOBODY, "--gid", _NOBODY, "--hostname", "box",
            "--ro-bind", "/usr", "/usr", "--proc", "/proc", "--dev", "/dev",
            "--size", str(self.limits.scratch), "--tmpfs", "/tmp", "--bind", str(self.work), WORK, "--chdir", WORK,
            "--ro-bind", str(INSIDE), "/box/inside.py", "--seccomp", str(descriptor),
        ]  # fmt: skip
        for name in ("bin", "sbin", "lib", "lib32", "lib64"):
            host = Path("/", name)
            if host.is_symlink():
                made += ["--symlink", os.readlink(host), f"/{name}"]
            elif host.is_dir():
                made += ["--ro-bind", str(host), f"/{name}"]
        if not sys.base_prefix.startswith("/usr"):
            made += ["--ro-bind", sys.base_prefix, sys.base_prefix]
        for name in self.read_only:
            made += ["--ro-bind", str(self.work / name), f"{WORK}/{name}"]
        for name, value in _ENV.items():
            made += ["--setenv", name, value]
        return [*made, "--"]

    def _watch(self, process: subprocess.Popen[bytes], stdin: bytes) -> Ran:
        """Feed and read a run within its bounds, and leave nothing of it behind."""
        began = time.monotonic()
        deadline = began + self.limits.seconds
        kept = {"out": bytearray(), "err": bytearray()}
        with process:
            try:
                killed = self._serve(process, memoryview(stdin), kept, deadline) or _waited(process, deadline)
            finally:  # however it ended, by an interrupt or a fault of ours too
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
        most, seconds = self.limits.output, time.monotonic() - began
        return Ran(code, bytes(kept["out"][:most]), bytes(kept["err"][:most]), killed, seconds, self.tier)

    def _serve(
        self, process: subprocess.Popen[bytes], stdin: memoryview, kept: dict[str, bytearray], deadline: float
    ) -> Killed:
        """Pass streams until they end or a bound is met; which bound."""
        with selectors.DefaultSelector() as waiting:
            for pipe, name in ((process.stdin, "in"), (process.stdout, "out"), (process.stderr, "err")):
                assert pipe is not None
                os.set_blocking(pipe.fileno(), False)
                waiting.register(pipe, selectors.EVENT_WRITE if name == "in" else selectors.EVENT_READ, name)
            while waiting.get_map():
                left = deadline - time.monotonic()
                if left <= 0:
                    return "time"
                if size(self.work) > self.limits.scratch:
                    return "disk"
                for key, _ in waiting.select(min(left, LOOK)):
                    if key.data == "in":
                        stdin = _feed(key.fd, stdin)
                        over = not stdin
                    else:
                        piece = os.read(key.fd, 65536)
                        kept[key.data] += piece
                        over = not piece
                        if len(kept[key.data]) > self.limits.output:
                            return "output"
                    if over:
                        waiting.unregister(key.fileobj)
                        key.fileobj.close()  # type: ignore[union-attr] # they are the pipes registered above
                if not self.spaces and process.poll() is not None:
                    break  # the guest is gone, although a process that it left behind may hold its streams
        return ""


def _waited(process: subprocess.Popen[bytes], deadline: float) -> Killed:
    """Wait for a guest whose streams have ended; whether it is late."""
    try:
        process.wait(max(deadline - time.monotonic(), 0.0))
    except subprocess.TimeoutExpired:
        return "time"
    return ""


def _feed(descriptor: int, rest: memoryview) -> memoryview:
    """What is left after one write; nothing when the reader is gone."""
    try:
        return rest[os.write(descriptor, rest[:65536]) :] if rest else rest
    except BlockingIOError:
        return rest
    except BrokenPipeError:
        return memoryview(b"")


def _interpreter() -> str:
    """The interpreter that a box is given: that of this process, without its environment."""
    return str(Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}")


def has_landlock() -> bool:
    """Whether this kernel knows Landlock."""
    import ctypes

    return int(ctypes.CDLL(None, use_errno=True).syscall(444, None, 0, 1)) >= 1
