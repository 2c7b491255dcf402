"""The box of the suites as a sandbox of Inspect AI: ``--sandbox affectscope``, or ``("affectscope", "full")``.

1. A sample has one work folder, which is ``/w`` in the box; each command is one run of a box of the tier asked for or a stronger one.
2. Files are written from within the box: a link that a guest put there leads the writer nowhere that the guest could not go.
3. Files are read by the host, by ``openat2`` and without following any link.
"""

from __future__ import annotations

import errno
import json
import os
import posixpath
import tempfile
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast, overload

from anyio import Lock, to_thread
from inspect_ai.log import transcript
from inspect_ai.util import (
    ExecResult,
    OutputLimitExceededError,
    SandboxEnvironment,
    SandboxEnvironmentConfigType,
    SandboxEnvironmentLimits,
    SandboxUserUnsupportedError,
    sandboxenv,
)
from pydantic import BaseModel, ConfigDict, Field

from affectscope.errors import AffectscopeError
from affectscope.suites.sandbox.box import TIERS, WORK, Box, Tier
from affectscope.suites.sandbox.folder import remove
from affectscope.suites.sandbox.hostfiles import read_beneath
from affectscope.suites.sandbox.limits import Limits, Ran
from affectscope.suites.sandbox.probe import require

TIER: Tier = "namespaces"
"""Least tier where nothing names another, as in `affectscope eval`."""
LAUNCHER = ".affectscope-launch.py"
_LAUNCH = """import json, os, sys
what = json.loads(sys.argv[1])
os.environ.update(what["env"])
if "write" in what:
    os.makedirs(os.path.dirname(what["write"]) or ".", exist_ok=True)
    with open(what["write"], "wb") as file:
        file.write(sys.stdin.buffer.read())
else:
    os.chdir(what["cwd"])
    try:
        os.execvp(what["cmd"][0], what["cmd"])
    except OSError as error:
        sys.stderr.write(what["cmd"][0] + ": " + str(error.strerror) + "\\n")
        sys.exit(127 if isinstance(error, FileNotFoundError) else 126)
"""


class BoxConfig(BaseModel):
    """What a box may be and use. Times in seconds, sizes in bytes.

    ``tier`` is the least that is accepted. ``seconds`` bounds a command that has no timeout of its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tier: Literal["full", "namespaces", "landlock"] = "namespaces"
    seconds: float = Field(default=60.0, gt=0)
    memory: int = Field(default=512 << 20, gt=0)
    processes: int = Field(default=64, gt=0)
    scratch: int = Field(default=64 << 20, gt=0)
    output: int = Field(default=1 << 20, gt=0)


@sandboxenv(name="affectscope")
class BoxEnvironment(SandboxEnvironment):
    """One sample's box. ``tier`` is the one that it has."""

    def __init__(self, config: BoxConfig, tier: Tier) -> None:
        super().__init__()
        self.config, self.tier = config, tier
        self.work = Path(tempfile.mkdtemp(prefix="affectscope-box-"))
        self.gone = weakref.finalize(self, remove, self.work)  # also where an interrupt leaves no time to clean up
        # One command at a time: beside a running guest the launcher could be swapped for a link before it is bound.
        self._one = Lock()

    @classmethod
    async def sample_init(
        cls, task_name: str, config: SandboxEnvironmentConfigType | None, metadata: dict[str, str]
    ) -> dict[str, SandboxEnvironment]:
        """A box for one sample, of the tier in ``config``, else in the sample's metadata (``sandbox``); the log says which it got.

        Raises:
            AffectscopeError: an unknown tier, or one that this machine does not give: nothing is run.
        """
        made = _config(config, metadata)
        tier = await to_thread.run_sync(require, made.tier)
        transcript().info({"sandbox": tier, "asked": made.tier}, source="affectscope")
        return {"default": cls(made, tier)}

    @classmethod
    async def sample_cleanup(
        cls,
        task_name: str,
        config: SandboxEnvironmentConfigType | None,
        environments: dict[str, SandboxEnvironment],
        interrupted: bool,
    ) -> None:
        """Remove the work folders. No process outlives its command."""
        for environment in environments.values():
            await to_thread.run_sync(environment.as_type(BoxEnvironment).gone)

    @classmethod
    def config_deserialize(cls, config: dict[str, Any]) -> BaseModel:
        """The configuration as a log holds it."""
        return BoxConfig(**config)

    async def exec(
        self,
        cmd: list[str],
        input: str | bytes | None = None,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        user: str | None = None,
        timeout: int | None = None,
        timeout_retry: bool = True,
        concurrency: bool = True,
    ) -> ExecResult[str]:
        """Run a command; a box that is full, or has no such command, is a failed result.

        Raises:
            TimeoutError: it did not end in time; it is not tried again.
            OutputLimitExceededError: a stream holds more than the bound; what came is in the error.
            SandboxUserUnsupportedError: a user was named: there is nobody else in a box.
        """
        if user is not None:
            raise SandboxUserUnsupportedError(f"a box has one user only, and {user!r} was asked for")
        inside = self._root if cwd is None else posixpath.join(self._root, cwd)
        what = {"cmd": cmd, "cwd": inside, "env": dict(env or {})}
        seconds = self.config.seconds if timeout is None else float(timeout)
        ran = await self._run(what, input, seconds)
        out, err = (stream.decode(errors="replace") for stream in (ran.out, ran.err))
        if ran.killed == "time":
            raise TimeoutError(f"{cmd[0]} did not end within {seconds:g} s")
        if ran.killed == "output":
            raise OutputLimitExceededError(f"{self._output >> 10} KiB", out or err)
        if ran.killed:
            err += f"\nthe box is full: a sample may write {self.config.scratch >> 20} MiB"
        return ExecResult(ran.code == 0 and not ran.killed, ran.code, out, err)

    async def write_file(self, file: str, contents: str | bytes) -> None:
        """Write a file, from within the box.

        Raises:
            PermissionError: the place cannot be written by a guest.
            IsADirectoryError: there is a folder.
            TimeoutError: it took too long.
        """
        name = self._beneath(file)
        ran = await self._run({"write": posixpath.join(self._root, name), "env": {}}, contents, self.config.seconds)
        if ran.killed == "time":
            raise TimeoutError(f"{file} was not written in time")
        if ran.code or ran.killed:
            lines = ran.err.decode(errors="replace").strip().splitlines()
            cause = lines[-1][:200] if lines else ran.killed or f"it ended with {ran.code}"
            kind = IsADirectoryError if cause.startswith("IsADirectoryError") else PermissionError
            raise kind(f"{file} was not written: {cause}")

    @overload
    async def read_file(self, file: str, text: Literal[True] = True) -> str: ...

    @overload
    async def read_file(self, file: str, text: Literal[False]) -> bytes: ...

    async def read_file(self, file: str, text: bool = True) -> str | bytes:
        """Content of a file that the guest left.

        Raises:
            FileNotFoundError, IsADirectoryError: as they say.
            PermissionError: a link on the way, a path out of the folder, or no regular file.
            OutputLimitExceededError: larger than Inspect's bound on files.
            UnicodeDecodeError: no UTF-8 where text was asked for.
        """
        name, most = self._beneath(file), SandboxEnvironmentLimits.MAX_READ_FILE_SIZE
        try:
            content = await to_thread.run_sync(read_beneath, self.work, name, most)
        except AffectscopeError as error:
            raise _refused(self.work, name, str(error)) from error
        return content.decode("utf-8") if text else content

    @property
    def _root(self) -> str:
        """The work folder as a guest sees it."""
        return WORK if self.tier in ("full", "namespaces") else str(self.work)

    @property
    def _output(self) -> int:
        return min(self.config.output, SandboxEnvironmentLimits.MAX_EXEC_OUTPUT_SIZE)

    def _beneath(self, file: str) -> str:
        """The file's path from the work folder on.

        Raises:
            PermissionError: another folder; nothing written there would last until the next command.
        """
        name = posixpath.relpath(file, self._root) if file.startswith("/") else posixpath.normpath(file)
        if name == ".." or name.startswith("../"):
            raise PermissionError(f"{file} lies outside the work folder {self._root}")
        return name

    async def _run(self, what: dict[str, Any], input: str | bytes | None, seconds: float) -> Ran:
        """One run of the launcher, which the guest can read and not change."""
        content = input.encode() if isinstance(input, str) else input or b""
        limits = replace(
            Limits(),
            seconds=seconds,
            cpu_seconds=max(1, int(seconds)),
            memory=self.config.memory,
            processes=self.config.processes,
            scratch=self.config.scratch,
            file=min(self.config.scratch, 64 << 20),
            output=self._output,
        )

        def work() -> Ran:
            self._place_launcher()
            box = Box(self.work, self.tier, limits, (LAUNCHER,) if self._root == WORK else ())
            return box.python(LAUNCHER, json.dumps(what), stdin=content)

        async with self._one:
            return await to_thread.run_sync(work)

    def _place_launcher(self) -> None:
        """Put the launcher there anew, whatever a guest made of its name in the last run; no link is followed."""
        place = self.work / LAUNCHER
        if place.is_dir() and not place.is_symlink():
            raise PermissionError(f"a guest made a folder of {LAUNCHER}: the box is not used any more")
        place.unlink(missing_ok=True)
        opened = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        with os.fdopen(opened, "w", encoding="ascii") as file:
            file.write(_LAUNCH)


def _config(config: SandboxEnvironmentConfigType | None, metadata: dict[str, str]) -> BoxConfig:
    if isinstance(config, BoxConfig):
        return config
    # Inspect takes a text for a file and may put a folder before it.
    name = os.path.basename(config) if isinstance(config, str) else metadata.get("sandbox", TIER)
    if not isinstance(name, str) or name not in TIERS[:-1]:
        raise AffectscopeError(f"unknown sandbox tier {name!r}: use {', '.join(TIERS[:-1])}")
    return BoxConfig(tier=cast(Any, name))


def _refused(folder: Path, name: str, why: str) -> Exception:
    """The error that Inspect knows for a file that was not read. It only names the cause; nothing is read again."""
    if os.strerror(errno.ENOENT) in why:
        return FileNotFoundError(errno.ENOENT, why, name)
    if "it holds more than" in why:
        return OutputLimitExceededError(SandboxEnvironmentLimits.MAX_READ_FILE_SIZE_STR, None)
    place = folder / name
    if place.is_dir() and not place.is_symlink():
        return IsADirectoryError(errno.EISDIR, why, name)
    return PermissionError(errno.EACCES, why, name)
