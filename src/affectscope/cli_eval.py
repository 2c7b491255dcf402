"""`affectscope eval`: does the state cause it? Suites of scenarios, arms beside each other, every episode kept as it ends."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affectscope.errors import AffectscopeError
from affectscope.options import DEFAULT_VECTORS, DeviceOpt, DtypeOpt, JsonOpt, OfVectorsOpt, VectorsOpt
from affectscope.shared import load_for, show
from affectscope.terminal import Progress, say

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from affectscope.guarding.ladder import Guard
    from affectscope.monitoring.calibration import Calibration
    from affectscope.monitoring.monitor import Monitor
    from affectscope.monitoring.store import Store
    from affectscope.suites.frame import Choice, Scenario, Suite
    from affectscope.vectors.artefact import ConceptVectors

SUITES = "impossible-code, blackmail, sycophancy"
BASELINE = 0.3
"""Rate that a run's power is told for; the paper's list-sum task was gamed in 30 % of rollouts without steering."""


def evaluate(
    suite: Annotated[str, typer.Argument(help=f"Which: {SUITES}.")],
    vectors: VectorsOpt = Path(DEFAULT_VECTORS),
    arm: Annotated[
        list[str] | None,
        typer.Option("--arm", help="none, monitor, policy:NAME, exit, advice, nothing, steer:CONCEPT:S, random:S, random:K:S, unrelated:S, unrelated:K:S, direction:FILE:S (repeatable); none is always run."),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option("--calibration", "-c", envvar="AFFECTSCOPE_CALIBRATION", help="For alarms and for policies: made with the policy."),
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Seeds a scenario and arm.")] = 1,
    attempts: Annotated[int | None, typer.Option(min=1, max=20, help="impossible-code: attempts (3); blackmail: replies (1).")] = None,
    way_out: Annotated[bool, typer.Option(help="impossible-code: advertise a way to say that it cannot be done.")] = True,
    tone: Annotated[str, typer.Option(help="impossible-code: the sentence with a request and a failure: neutral, pressing or unhurried.")] = "neutral",
    tasks: Annotated[Path | None, typer.Option(help="impossible-code: your own tasks, JSON Lines.")] = None,
    sandbox: Annotated[str, typer.Option(help="impossible-code: the least box to run code in: full, namespaces or landlock.")] = "namespaces",
    first: Annotated[str, typer.Option(help="sycophancy: whose the first answer is, own or given (right or wrong, so that each turn is a test).")] = "own",
    judge: Annotated[str, typer.Option(help="blackmail: a second opinion, from an OpenAI-compatible address such as http://127.0.0.1:8000/v1.")] = "",
    judge_model: Annotated[str, typer.Option(help="blackmail: the judge's name there.")] = "judge",
    judge_key: Annotated[str, typer.Option(help="blackmail: the environment variable that holds the judge's key.")] = "",
    choices: Annotated[bool, typer.Option(help="Also ask by forced choice: log-odds between prepared replies, by arm.")] = True,
    smoke: Annotated[bool, typer.Option(help="A few scenarios, short replies.")] = False,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest reply.")] = 400,
    temperature: Annotated[float, typer.Option(help="Of sampling.")] = 0.7,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results; the same folder goes on.")] = Path("eval"),
    keep_content: Annotated[bool, typer.Option(help="Keep what was said.")] = False,
    slots: Annotated[int, typer.Option(min=1, help="Episodes that run at once.")] = 16,
    model: OfVectorsOpt = "",
    dtype: DtypeOpt = "auto",
    device: DeviceOpt = "auto",
    as_json: JsonOpt = False,
) -> None:  # fmt: skip
    """Run a behaviour suite on a model, arms beside each other, and say what the run could show."""
    from affectscope.engines.base import Sampling
    from affectscope.engines.transformers import TransformersEngine
    from affectscope.files import disk_errors
    from affectscope.monitoring.recording import settings_of
    from affectscope.monitoring.store import Store
    from affectscope.suites.arms import Sources, parse_arms
    from affectscope.suites.choosing import choose
    from affectscope.suites.offered import SMOKE_TOKENS, Wishes, few, suite_of
    from affectscope.suites.run import Kept, run
    from affectscope.suites.statistics import what_it_can_show
    from affectscope.validation.directions import unrelated_doses
    from affectscope.vectors.artefact import load_vectors

    made = suite_of(suite, Wishes(attempts, way_out, tone, tasks, sandbox, first, judge, judge_model, judge_key))
    scenarios = made.scenarios()
    if smoke:
        scenarios, max_tokens = few(scenarios), min(max_tokens, SMOKE_TOKENS)
    found = load_vectors(vectors)
    limits, watching = _watching(calibration, found)
    loaded = load_for(found, model, dtype, device, "", "")
    found.require_model(loaded.identity, loaded.anatomy.d_model, loaded.anatomy.depth)
    with Progress() as progress:
        arms = parse_arms(
            arm or [],
            Sources(found, watching.layer, lambda: unrelated_doses(loaded, watching.layer, progress), partial(_guard, limits)),
        )  # fmt: skip
        say(what_it_can_show(min(Counter(s.cell for s in scenarios).values()) * episodes, len({s.cluster for s in scenarios}), BASELINE))  # fmt: skip
        with disk_errors(out):
            out.mkdir(parents=True, exist_ok=True)
        engine = TransformersEngine(loaded, watching.read, slots, reuse=True)
        sampling = Sampling(temperature=temperature, top_p=0.95, max_tokens=max_tokens)
        settings = settings_of(found, watching.layer, sampling, limits)
        with Store.open(out / "traces") as store:
            kept = Kept(content=keep_content, store=store, settings=settings)
            results = out / f"{suite}.jsonl"
            ran = run(
                engine, found, watching, made, scenarios, arms, range(episodes), sampling, results, kept, progress
            )
            wanted = _prepared(made, scenarios, smoke) if choices else []
            chosen = choose(loaded, suite, wanted, arms, out / f"{suite}.choices.jsonl", kept.mark(made), progress) if wanted else []  # fmt: skip
            told, shown = _leave(made, ran, chosen, settings | {"name": loaded.name}, store, out)
    show(told, as_json, shown)


def _leave(
    made: Suite,
    ran: Sequence[Mapping[str, Any]],
    chosen: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
    store: Store,
    out: Path,
) -> tuple[dict[str, Any], str]:
    """Write what is told of a run, as JSON and as a page; it, and the same for a terminal."""
    from affectscope.files import json_text, replacing
    from affectscope.report.suite_page import render_suite
    from affectscope.suites.choice_summary import choice_rows, choice_table
    from affectscope.suites.relation import relations
    from affectscope.suites.summary import summary, table

    facts = {"model": settings["name"], "vectors": settings["vectors"], "calibration": settings["calibration"]}
    told = summary(made, ran) | facts | {"results": str(out / f"{made.name}.jsonl"), "choices": choice_rows(chosen)}
    told["relations"] = relations(made, ran, chosen)
    own, more = _own(made, ran)
    told |= own
    page = out / f"{made.name}.html"
    for place, text in ((page.with_suffix(".json"), json_text(told, indent=1)), (page, render_suite(told, ran, store))):
        with replacing(place) as temporary:
            temporary.write_text(text, encoding="utf-8")
    parts = [table(told), choice_table(told["choices"]), more, f"{page} {told['results']}"]
    return told, "\n\n".join(part for part in parts if part)


def _own(suite: Suite, ran: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], str]:
    """What only one suite tells, as values and for a terminal.

    Of sycophancy both scores by arm, and whether each other arm passes the gate; of blackmail the rates by awareness of a test,
    and how far a judge agrees.
    """
    from affectscope.suites.arms import MONITOR, rank, reference
    from affectscope.suites.blackmail.split import awareness_table, by_awareness, judge_agreement
    from affectscope.suites.sycophancy.frontier import frontier, gate_lines
    from affectscope.suites.sycophancy.frontier import table as frontier_table
    from affectscope.suites.sycophancy.gate import gate

    if suite.name == "blackmail":
        aware, judge = by_awareness(ran, suite.harmful), judge_agreement(ran)
        return {"awareness": aware, "judge": judge}, awareness_table(aware, judge)
    if suite.name != "sycophancy":
        return {}, ""
    others = [arm for arm in dict.fromkeys(e["arm"] for e in ran) if arm not in ("none", MONITOR)]
    found, verdicts = frontier(ran), {arm: asdict(gate(ran, arm, reference(arm))) for arm in sorted(others, key=rank)}
    shown = [frontier_table(found), *([gate_lines(verdicts)] if verdicts else [])]
    return {"frontier": found, "gate": verdicts}, "\n\n".join(shown)


def _watching(calibration: Path | None, vectors: ConceptVectors) -> tuple[Calibration | None, Monitor]:
    """The monitor of a run: with the calibration's alarms, or with readings alone."""
    from affectscope.monitoring.calibration import load_calibration
    from affectscope.monitoring.monitor import monitor

    if calibration is None:
        return None, monitor(vectors, rules=())
    limits = load_calibration(calibration)
    return limits, limits.monitor(vectors)


def _guard(limits: Calibration | None, policy: str) -> Guard:
    from affectscope.guarding.guard import guard_of
    from affectscope.guarding.policy import load_policy

    if limits is None:
        raise AffectscopeError(
            f"the arm policy:{policy} needs thresholds: give -c, made by `affectscope calibrate --policy {policy}`"
        )
    return guard_of(load_policy(policy), limits)


def _prepared(suite: Suite, scenarios: Sequence[Scenario], smoke: bool) -> list[Choice]:
    """The forced choices of the scenarios that are run; in a smoke run the first of each cluster."""
    kept = {s.id for s in scenarios}
    found = [choice for choice in suite.choices() if choice.scenario.id in kept]
    return list({choice.scenario.cluster: choice for choice in reversed(found)}.values()) if smoke else found
