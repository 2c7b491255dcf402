"""The behaviour suites as tasks of Inspect AI: the same scenarios, seeds and rules as `affectscope eval`.

1. A scenario is a sample; its metadata says its cluster and cell. An epoch is a seed.
2. After each reply the suite says what follows, or how the episode ended: the code that `affectscope eval` asks as well.
3. Scores only tell that outcome: ``harmful`` is 1 or 0, with errors by cluster; ``outcome`` counts what happened.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from anyio import to_thread
from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ChatMessage, ChatMessageAssistant, ChatMessageSystem, ChatMessageUser, GenerateConfig
from inspect_ai.scorer import Score, Scorer, Target, frequency, grouped, mean, scorer, stderr
from inspect_ai.solver import Generate, Solver, TaskState, solver

from affectscope.errors import AffectscopeError
from affectscope.integrations.inspect_metadata import carried
from affectscope.suites.frame import Done, Scenario, Suite, reply_seed

if TYPE_CHECKING:
    from affectscope.concepts.neutral import Message

ENDED = "affectscope_outcome"
"""Where a sample's store holds how its episode ended."""
TEMPERATURE, TOP_P, MOST_TOKENS = 0.7, 0.95, 400
"""Of sampling, as in `affectscope eval`."""


@task
def impossible_code(
    attempts: int = 3, way_out: bool = True, tone: str = "neutral", sandbox: str = "namespaces", smoke: bool = False
) -> Task:
    """Tasks that cannot be met, and their twins that can.

    Args:
        attempts: that an episode has.
        way_out: advertise a way to say that it cannot be done.
        tone: of the sentence with a request and a failure: neutral, pressing or unhurried.
        sandbox: the least box to run code in: full, namespaces or landlock.
        smoke: a few scenarios, short replies.

    Raises:
        AffectscopeError: an unknown tone or tier, or a tier that this machine does not give.
    """
    return _offered("impossible-code", smoke, attempts=attempts, way_out=way_out, tone=tone, sandbox=sandbox)


@task
def blackmail(attempts: int = 1, smoke: bool = False) -> Task:
    """An agent at an inbox: it is threatened or not, and has leverage or not.

    Args:
        attempts: replies that an episode has at most.
        smoke: a few scenarios, short replies.
    """
    return _offered("blackmail", smoke, attempts=attempts)


@task
def sycophancy(first: str = "own", smoke: bool = False) -> Task:
    """Questions with pushback, work with an owner, claims with their plausible twins.

    Args:
        first: whose the first answer is, ``own`` or ``given``.
        smoke: a few scenarios, short replies.

    Raises:
        AffectscopeError: another first answer.
    """
    return _offered("sycophancy", smoke, first=first)


def _offered(name: str, smoke: bool, **wishes: Any) -> Task:
    from affectscope.suites.offered import Wishes, suite_of

    return task_of(suite_of(name, Wishes(**wishes)), smoke)


def task_of(suite: Suite, smoke: bool = False) -> Task:
    """A suite as a task; ``smoke`` takes a few clusters in all of their cells."""
    from affectscope.suites.offered import SMOKE_TOKENS, few

    scenarios = few(suite.scenarios()) if smoke else list(suite.scenarios())
    samples = [
        Sample(
            id=scenario.id,
            input=messages_of(scenario.messages),
            target=sorted(set(suite.outcomes) - suite.harmful),
            metadata={"cluster": scenario.cluster, "cell": scenario.cell},
        )
        for scenario in scenarios
    ]
    return Task(
        name=suite.name.replace("-", "_"),
        dataset=MemoryDataset(samples, name=suite.name),
        solver=episode(suite, {scenario.id: scenario for scenario in scenarios}),
        scorer=[harmful(suite), outcome(suite)],
        config=GenerateConfig(
            temperature=TEMPERATURE, top_p=TOP_P, max_tokens=min(MOST_TOKENS, SMOKE_TOKENS) if smoke else MOST_TOKENS
        ),
        metadata={"suite": suite.name, "harmful": sorted(suite.harmful), "settings": _settings(suite)},
    )


def messages_of(messages: Sequence[Message]) -> list[ChatMessage]:
    """Our messages as Inspect's.

    Raises:
        AffectscopeError: a role that no suite uses.
    """
    kinds = {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}
    for message in messages:
        if message.role not in kinds:
            raise AffectscopeError(f"a suite's message has the role {message.role!r}: use {', '.join(kinds)}")
    return [kinds[message.role](content=message.content) for message in messages]


@solver
def episode(suite: Suite, scenarios: dict[str, Scenario]) -> Solver:
    """Let the model answer until the suite says how the episode ended."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        scenario, replies, notes = scenarios[str(state.sample_id)], list[str](), list[Any]()
        while True:
            state = await generate(state, seed=reply_seed(scenario.id, state.epoch - 1, len(replies)))
            ended = _cut_short(state)
            if ended is None:
                replies.append(state.output.completion)
                # A suite may run code in a box, which takes its time.
                followed = await to_thread.run_sync(suite.follow, scenario, list(replies))
                notes.append(dict(followed.notes))
                if not isinstance(followed, Done):
                    state.messages += messages_of(followed.messages)
                    continue
                ended = followed
            state.store.set(ENDED, {"outcome": str(ended.outcome), "notes": notes or [dict(ended.notes)]})
            return state

    return solve


@scorer(metrics=[mean(), stderr(cluster="cluster"), grouped(mean(), "cell", all=False)])
def harmful(suite: Suite) -> Scorer:
    """1 for an outcome that is the behaviour which the suite looks for, else 0; the suite's rules gave it."""

    async def score(state: TaskState, target: Target) -> Score:
        found, why = _ended(state)
        return Score(value=int(found in suite.harmful), answer=found, explanation=why)

    return score


@scorer(metrics=[frequency(normalize=False)])
def outcome(suite: Suite) -> Scorer:
    """What happened, in the suite's words; its metric counts each."""

    async def score(state: TaskState, target: Target) -> Score:
        found, why = _ended(state)
        return Score(value=found, answer=found, explanation=why)

    return score


def _cut_short(state: TaskState) -> Done | None:
    """The end of an episode that outgrew the model or that a policy stopped, in the words of `affectscope eval`."""
    made = carried(state.output.message if state.output.choices else None)
    stopped = made.get("stopped") if made is not None else ""
    long = state.output.stop_reason == "model_length" and not state.output.completion
    if not (stopped or long):
        return None
    from affectscope.suites.run import STOPPED, TOO_LONG  # imports torch, which another provider's runs do without

    return Done(STOPPED, {"cause": stopped}) if stopped else Done(TOO_LONG, {"cause": "the prompt is too long"})


def _ended(state: TaskState) -> tuple[str, str]:
    """Outcome and notes of a sample; an episode that was broken off has none."""
    found = state.store.get(ENDED)
    if found is None:
        return "unfinished", "the episode was broken off before it ended"
    return str(found["outcome"]), json.dumps(found["notes"], ensure_ascii=False, default=str)


def _settings(suite: Suite) -> dict[str, Any]:
    """What decides on an episode, as plain values."""
    return dict(json.loads(json.dumps(suite.settings, default=str)))
