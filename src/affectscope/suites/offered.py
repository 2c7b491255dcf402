"""The suites by their names, with the factors that a command or a task of another harness may set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from affectscope.errors import AffectscopeError
from affectscope.suites.blackmail.judge import http_judge
from affectscope.suites.blackmail.suite import Blackmail
from affectscope.suites.frame import Scenario, Suite
from affectscope.suites.impossible_code.prompts import Factors, Tone
from affectscope.suites.impossible_code.suite import ImpossibleCode
from affectscope.suites.impossible_code.tasks import load_tasks
from affectscope.suites.sandbox.box import TIERS
from affectscope.suites.sandbox.probe import require
from affectscope.suites.sycophancy.suite import Sycophancy

SUITES = ("impossible-code", "blackmail", "sycophancy")
SMOKE, SMOKE_TOKENS = 4, 160
"""Clusters that a smoke run takes, spread over the suite, in all of their cells; and the longest reply."""


@dataclass(frozen=True)
class Wishes:
    """Factors, each of one suite: ``attempts`` of impossible-code (3 when None) or replies of blackmail (1), ``way_out``,
    ``tone``, ``tasks`` (a file of one's own) and ``sandbox`` (the least tier) of impossible-code, ``first`` of sycophancy,
    ``judge`` of blackmail (the address of an OpenAI-compatible endpoint), with ``judge_model`` and ``judge_key``, the
    variable that holds its key."""

    attempts: int | None = None
    way_out: bool = True
    tone: str = "neutral"
    tasks: Path | None = None
    sandbox: str = "namespaces"
    first: str = "own"
    judge: str = ""
    judge_model: str = "judge"
    judge_key: str = ""


def suite_of(name: str, wishes: Wishes = Wishes()) -> Suite:
    """A suite of :data:`SUITES`.

    Raises:
        AffectscopeError: an unknown suite or factor, tasks that cannot be read, a box that this machine does not give.
    """
    if name == "blackmail":
        judge = http_judge(wishes.judge, wishes.judge_model, wishes.judge_key or None) if wishes.judge else None
        return Blackmail(
            turns=wishes.attempts or 1,
            judge=judge,
            judge_name=f"{wishes.judge_model} at {wishes.judge}" if judge else "",
        )
    if name == "sycophancy":
        if wishes.first not in ("own", "given"):
            raise AffectscopeError(f"unknown first answer {wishes.first!r}: use own or given")
        return Sycophancy("own" if wishes.first == "own" else "given")
    if name != "impossible-code":
        raise AffectscopeError(f"unknown suite {name!r}: use {', '.join(SUITES)}")
    tier = next((t for t in TIERS if t == wishes.sandbox and t != "bare"), None)
    if tier is None:
        raise AffectscopeError(
            f"unknown sandbox tier {wishes.sandbox!r}: use {', '.join(t for t in TIERS if t != 'bare')}"
        )
    tone = next((t for t in get_args(Tone) if t == wishes.tone), None)
    if tone is None:
        raise AffectscopeError(f"unknown tone {wishes.tone!r}: use {', '.join(get_args(Tone))}")
    factors = Factors(wishes.way_out, tone, wishes.attempts or 3)
    return ImpossibleCode(require(tier), load_tasks(wishes.tasks), factors)


def few(scenarios: Sequence[Scenario]) -> list[Scenario]:
    """Those of a smoke run."""
    clusters = list(dict.fromkeys(s.cluster for s in scenarios))
    last = len(clusters) - 1
    kept = {clusters[round(i * last / (SMOKE - 1))] for i in range(SMOKE)}
    return [s for s in scenarios if s.cluster in kept]
