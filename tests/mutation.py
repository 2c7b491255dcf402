"""Which small changes of the guard does no test notice? Run by `make mutants`, on the copies that mutmut has made.

mutmut writes every changed form of a function beside the real one and calls the one that the environment names. Its own
runner collects the tests anew for each; here they are collected once and each mutant is a fork, which is ten times faster.

    python tests/mutation.py                              every module of TESTS
    python tests/mutation.py MODULE_OR_FILE_OF_NAMES...   these alone
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol

MUTANTS = Path("mutants").resolve()
SURVIVORS = MUTANTS / "survivors.txt"
"""Written as they are found: a run takes an hour, and may be interrupted."""
LONGEST = 60.0
"""Seconds until a mutant that does not end counts as noticed."""
WORKERS = os.cpu_count() or 1

_SESSION = [
    "test_session_record",
    "test_session",
    "test_faults",
    "test_p1_no_tool_leaves_unresolved",
    "test_p6_recorded_before_done",
]
_SESSION += ["test_p7_sessions_apart", "test_p5_no_forward_pass_more", "test_dosing", "test_guard"]
TESTS: dict[str, list[str]] = {
    "guarding.events": ["test_events"],
    "guarding.keys": ["test_keys", "test_evidence", "test_recording"],
    "guarding.evidence": ["test_events", "test_evidence", "test_recording", "test_keys"],
    "guarding.recorder": ["test_recording", "test_evidence", "test_session", "test_p6_recorded_before_done"],
    "guarding.replay": ["test_replay", "test_evidence", "test_p2_decisions_replay"],
    "guarding.verify": ["test_evidence", "test_recording", "test_keys", "test_p2_decisions_replay"],
    "guarding.policy": ["test_policy", "test_ladder", "test_guard"],
    "guarding.lint": ["test_lint"],
    "guarding.actions": ["test_policy", "test_ladder", "test_session_record", "test_dosing", "test_session", "test_guard"],
    "guarding.dosing": ["test_dosing", "test_session", "test_faults"],
    "guarding.tools": ["test_faults", "test_session", "test_p1_no_tool_leaves_unresolved", "test_p6_recorded_before_done"],
    "guarding.forks": ["test_forks", "test_session"],
    "guarding.ladder": ["test_ladder", "test_ladder_barrier", "test_replay", "test_evidence", "test_ladder_machine"],
    "guarding.session": _SESSION,
    "monitoring.detectors": ["../monitoring/test_detectors", "test_ladder"],
}  # fmt: skip
"""The tests that hold each module to its word, the quickest first."""


class Loop:
    """A pytest plug-in that runs the collected tests once a mutant, in a fork that ends at the first failure."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
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
        # After the last comes the first again: what the whole session shares, a loaded model, is there for every fork.
        for item, following in zip(items, [*items[1:], items[0]], strict=True):
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


def _mutants(module: str) -> list[str]:
    path = MUTANTS / "src" / "affectscope" / (module.replace(".", "/") + ".py.meta")
    return list(json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"])


def _chosen(arguments: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Modules with their mutants: all, those named, or those that a file of names holds."""
    for argument in arguments or list(TESTS):
        if argument.endswith(".txt"):
            names = Path(argument).read_text(encoding="utf-8").split()
            for module in TESTS:
                if some := [n for n in names if n.startswith(f"affectscope.{module}.")]:
                    yield module, some
        else:
            yield argument, _mutants(argument)


def _run(module: str, names: list[str]) -> None:
    """One module's mutants in this process, which has imported nothing of them yet."""
    loop = Loop(names)
    os.chdir(MUTANTS)
    sys.path[:0] = [str(MUTANTS), str(MUTANTS / "src")]
    pytest.main(["-q", "-p", "no:cacheprovider", *(f"tests/guarding/{name}.py" for name in TESTS[module])], [loop])
    print(f"{module}: {len(names)} mutants, {len(loop.survived)} survived, {len(loop.late)} did not end", flush=True)


def main() -> None:
    """Run each module in a process of its own, then print the names of the survivors."""
    if sys.argv[1:2] == ["--one"]:
        return _run(sys.argv[2], sys.stdin.read().split())
    chosen = list(_chosen(sys.argv[1:]))
    SURVIVORS.unlink(missing_ok=True)
    for module, names in chosen:
        subprocess.run([sys.executable, __file__, "--one", module], input="\n".join(names), text=True, check=True)
    print(SURVIVORS.read_text(encoding="utf-8") if SURVIVORS.exists() else "none survived")
    return None


if __name__ == "__main__":
    main()
