"""Which small changes of the guard does no test notice? Run by `make mutants`, on the copies that mutmut has made.

mutmut writes every changed form of a function beside the real one and calls the one that the environment names. Its own
runner collects the tests anew for each; here they are collected once and each mutant is a fork, which is ten times faster.

    python tests/mutation.py MODULE_OR_FILE_OF_NAMES... [-- PYTEST ARGUMENT...]
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol

MUTANTS = Path("mutants")
SURVIVORS = MUTANTS.resolve() / "survivors.txt"
"""Written as they are found: a run takes minutes, and may be interrupted."""
LONGEST = 60.0
"""Seconds until a mutant that does not end counts as noticed."""
WORKERS = os.cpu_count() or 1


class Loop:
    """A pytest plug-in that runs the collected tests once a mutant, in a fork that ends at the first failure."""

    def __init__(self, modules: list[str]) -> None:
        self.names = [name for module in modules for name in _mutants(module)]
        self.survived: list[str] = []
        self.late: list[str] = []

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        os.environ["MUTANT_UNDER_TEST"] = ""
        if not self._passes(session.items):
            raise SystemExit("the tests fail without any change")
        waiting, running, done, told = iter(self.names), dict[int, tuple[str, float]](), 0, 0
        while True:
            while len(running) < WORKERS and (name := next(waiting, None)) is not None:
                running[self._fork(session.items, name)] = (name, time.monotonic())
            if not running:
                return True
            done += self._reap(running)
            if done // 50 > told:
                told = done // 50
                print(f"{done}/{len(self.names)}, {len(self.survived)} survived", file=sys.stderr, flush=True)

    def _fork(self, items: list[pytest.Item], name: str) -> int:
        child = os.fork()
        if child:
            return child
        os.environ["MUTANT_UNDER_TEST"] = name
        for stream in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        code = 1
        try:
            code = 0 if self._passes(items) else 1
        finally:
            os._exit(code)

    def _passes(self, items: list[pytest.Item]) -> bool:
        for place, item in enumerate(items):
            following = items[place + 1] if place + 1 < len(items) else None
            if any(report.failed for report in runtestprotocol(item, log=False, nextitem=following)):
                return False
        return True

    def _reap(self, running: dict[int, tuple[str, float]]) -> int:
        child, status = os.waitpid(-1, os.WNOHANG)
        if child:
            name, _ = running.pop(child)
            if status == 0:
                self.survived.append(name)
                with SURVIVORS.open("a", encoding="utf-8") as file:
                    file.write(name + "\n")
            return 1
        for pid, (name, began) in running.items():
            if time.monotonic() - began > LONGEST:
                os.kill(pid, signal.SIGKILL)
                self.late.append(name)
                running[pid] = (name, time.monotonic() + LONGEST)
        time.sleep(0.005)
        return 0


def _mutants(module: str) -> Iterator[str]:
    if module.endswith(".txt"):
        yield from Path(module).read_text(encoding="utf-8").split()
        return
    path = MUTANTS / "src" / (module.replace(".", "/") + ".py.meta")
    yield from json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"]


def main() -> None:
    """Run, and print the names of the survivors."""
    arguments = sys.argv[1:]
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    loop = Loop(arguments[:cut])
    SURVIVORS.unlink(missing_ok=True)
    os.chdir(MUTANTS)
    sys.path.insert(0, str(Path("src").resolve()))
    sys.path.insert(0, str(Path().resolve()))
    pytest.main(["-q", "-p", "no:cacheprovider", *arguments[cut + 1 :]], [loop])
    print(f"{len(loop.names)} mutants, {len(loop.survived)} survived, {len(loop.late)} did not end", flush=True)
    print("\n".join(loop.survived))


if __name__ == "__main__":
    main()
