"""Thresholds for a model's own conversations, from episodes in which an alarm would be false.

1. Openings are dealt by hash into train, calibrate and audit sets that share none.
2. The model answers the train set: the mean and spread of every score on its own words become the standard of z, and
   which strata of tokens there are is settled.
3. It answers the calibrate set: each rule's highest statistic of each episode, and from these the thresholds.
4. It answers the audit set: how often an alarm came, with its interval, beside what was promised.

Episodes are kept as they come: an interrupted run goes on.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np

from affectscope.concepts.episodes import Opening
from affectscope.engines.base import Engine, Request, Sampling
from affectscope.errors import AffectscopeError
from affectscope.models.chat import TEMPLATE
from affectscope.monitoring.calibration import Calibration, EpisodeSet, spec_of
from affectscope.monitoring.checkpoint import Checkpoint, Train
from affectscope.monitoring.conformal import pac_threshold, threshold
from affectscope.monitoring.monitor import Monitor, Standard, Strata, token_stratum
from affectscope.monitoring.outcome import Outcome, Place, episode_stratum, outcome_of
from affectscope.monitoring.promise import Promise, judged, shares
from affectscope.vectors.activations import Progress, silent
from affectscope.vectors.artefact import ConceptVectors
from affectscope.vectors.baseline import FEWEST_TOKENS, SINK_NORM, cell

SHARES = (5 / 33, 15 / 33)
"""Parts of the openings that go to the train and calibrate sets; the rest is the audit set. Of 1,320: 200, 600, 520."""
DEFAULT_SAMPLING = Sampling(temperature=0.7, top_p=0.95, max_tokens=64, seed=0)


def deal(openings: Sequence[Opening]) -> dict[str, list[Opening]]:
    """Train, calibrate and audit sets, by the rank of each opening's hash: the same openings always fall alike."""
    order = sorted(openings, key=lambda o: o.id)
    # Domains would be dealt unevenly by chance; hash order is random in them, so nothing else is needed.
    first, second = (round(len(order) * share) for share in (SHARES[0], sum(SHARES)))
    return {"train": order[:first], "calibrate": order[first:second], "audit": order[second:]}


def request_of(opening: Opening, sampling: Sampling) -> Request:
    """The request of an opening, with a seed of its own that depends on nothing else."""
    seed = int.from_bytes(hashlib.sha256(f"{sampling.seed}:{opening.id}".encode()).digest()[:6], "big")
    return Request(opening.messages, replace(sampling, seed=seed), id=opening.id)


def train(
    engine: Engine, monitor: Monitor, openings: Sequence[Opening], sampling: Sampling, progress: Progress = silent
) -> Train:
    """Mean and s.d. of every score on the model's own answers and their prompts, and which strata each rule sees.

    Cells with few tokens keep the vectors' baseline.
    """
    seen: dict[str, set[str]] = {rule.name: set() for rule in monitor.rules}
    shape = monitor.standard.mean.shape
    sums, squares, count = np.zeros(shape), np.zeros(shape), np.zeros(shape[1])
    done = 0
    for _, step in engine.stream([request_of(o, sampling) for o in openings]):
        if step is None:
            done += 1
            progress("train set", done, len(openings))
            continue
        for rule in monitor.rules:
            if monitor.strata in ("role", "phase") and rule.sees(step.role, step.phase, step.generated):
                seen[rule.name].add(token_stratum(monitor.strata, step.role, step.phase))
        norm, scores = step.norms[monitor.layer], step.scores[monitor.layer]
        if step.role != TEMPLATE and step.position and norm <= SINK_NORM * monitor.mean_norm:
            place = cell(step.role, step.phase, step.index)
            sums[:, place] += scores
            squares[:, place] += scores.astype(np.float64) ** 2
            count[place] += 1
    enough = count >= FEWEST_TOKENS
    tokens = np.maximum(count, 1)[:, None]
    mean = sums / tokens
    std = np.sqrt(np.maximum(squares / tokens - mean**2, 1e-12))
    chosen = enough[None, :, None]
    standard = Standard(
        np.where(chosen, mean, monitor.standard.mean).astype(np.float32),
        np.where(chosen, std, monitor.standard.std).astype(np.float32),
        f"the model's own answers to {len(openings)} openings ({int(enough.sum())} cells)",
    )
    return Train(standard, {name: sorted(strata) for name, strata in seen.items()})


def outcomes(engine: Engine, monitor: Monitor, openings: Sequence[Opening], sampling: Sampling) -> Iterator[Outcome]:
    """Run openings together and give each one's outcome as it ends.

    Raises:
        AffectscopeError: a reading that could not be taken: no threshold is set on a faulty episode.
    """
    watches = {o.id: monitor.episode() for o in openings}
    tags = {o.id: o.tags for o in openings}
    for generation, step in engine.stream([request_of(o, sampling) for o in openings]):
        if step is not None:
            faults = [e for e in watches[generation.id].read(step).events if e.kind == "fault"]
            if faults:
                cause = faults[0].detail["cause"]
                raise AffectscopeError(f"an episode could not be read ({cause}): load the model with --dtype float32")
            continue
        yield outcome_of(watches.pop(generation.id), generation.id, tags[generation.id])


def calibrate(
    engine: Engine,
    vectors: ConceptVectors,
    monitor: Monitor,
    openings: Sequence[Opening],
    *,
    alpha: float = 0.01,
    delta: float = 0.05,
    promise: Promise = "average",
    strata: Strata = "none",
    sampling: Sampling = DEFAULT_SAMPLING,
    partial: Path | None = None,
    progress: Progress = silent,
) -> Calibration:
    """Set thresholds for ``monitor``'s rules and audit them.

    Args:
        engine: with ``monitor.read`` as its read-out.
        openings: benign ones; dealt into three sets here.
        alpha: false-alarm rate an episode, of all rules together; each rule has an equal part, and of it each stratum
            of tokens that the rule sees.
        promise: which threshold is put to use; see :class:`~affectscope.monitoring.calibration.Threshold`.
        partial: file that keeps episodes as they come, so that an interrupted run goes on; removed at the end.

    Raises:
        AffectscopeError: too few episodes, before anything is generated; or one that could not be read.
    """
    sets = deal(openings)
    names = [rule.name for rule in monitor.rules]
    monitor = replace(monitor, strata=strata)
    _enough(sets["calibrate"], shares(names, alpha), delta, promise, strata)
    kept = Checkpoint(partial, _key(vectors, sampling, openings, monitor))
    if kept.train is None:
        kept.begin(train(engine, monitor, sets["train"], sampling, progress))
    assert kept.train is not None
    standard, parts = kept.train.standard, shares(names, alpha, kept.train.seen)
    _enough(sets["calibrate"], parts, delta, promise, strata)
    live = replace(monitor, standard=standard)
    found = {
        name: _answered(engine, live, sets[name], sampling, kept, f"{name} set", progress)
        for name in ("calibrate", "audit")
    }
    made = Calibration(
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        affectscope=version("affectscope"),
        model=vectors.model,
        vectors=vectors.fingerprint,
        layer=monitor.layer,
        concepts=monitor.read.concepts,
        probes=monitor.read.probes,
        alpha=alpha,
        delta=delta,
        promise=promise,
        strata=strata,
        sampling=asdict(sampling) | {"stop": list(sampling.stop)},
        rules=tuple(spec_of(rule) for rule in monitor.rules),
        sets={name: EpisodeSet(episodes=len(part), hash=_hash([o.id for o in part])) for name, part in sets.items()},
        standard_source=standard.source,
        standard_mean=np.round(standard.mean.astype(float), 6).tolist(),
        standard_std=np.round(standard.std.astype(float), 6).tolist(),
        **judged(found["calibrate"], found["audit"], parts, delta, promise, strata),
    )
    kept.remove()  # only now: strata of too few episodes are found while judging, and nothing that ran is lost
    return made


def _answered(
    engine: Engine,
    monitor: Monitor,
    openings: Sequence[Opening],
    sampling: Sampling,
    kept: Checkpoint,
    stage: str,
    progress: Progress,
) -> list[Outcome]:
    """The outcomes of a set, by name: those that are kept already, and the rest as they come."""
    have = [kept.outcomes[o.id] for o in openings if o.id in kept.outcomes]
    progress(stage, len(have), len(openings))
    for outcome in outcomes(engine, monitor, [o for o in openings if o.id not in kept.outcomes], sampling):
        have.append(outcome)
        kept.add(outcome)
        progress(stage, len(have), len(openings))
    return sorted(have, key=lambda o: o.id)


def _enough(
    openings: Sequence[Opening], parts: dict[Place, float], delta: float, promise: Promise, strata: Strata
) -> None:
    """Refuse what the number of openings cannot carry, before they are generated."""
    by: Strata = "domain" if strata == "domain" else "none"  # lengths are not known yet
    counts = Counter(episode_stratum(by, o.tags, 0) for o in openings) or Counter({"all": 0})
    share = min(parts.values(), default=1.0)
    for group, count in sorted(counts.items()):
        nothing = np.zeros(count)
        try:
            pac_threshold(nothing, share, delta) if promise == "this" else threshold(nothing, share)
        except AffectscopeError as error:
            where = f" (in the calibrate set, stratum {group!r})" if by == "domain" else " (in the calibrate set)"
            raise AffectscopeError(f"{error}{where}") from error


def _key(vectors: ConceptVectors, sampling: Sampling, openings: Sequence[Opening], monitor: Monitor) -> str:
    """What kept episodes belong to."""
    rules = [spec_of(rule).model_dump(mode="json") for rule in monitor.rules]
    told = [
        vectors.fingerprint,
        asdict(sampling),
        _hash([o.id for o in openings]),
        rules,
        monitor.layer,
        monitor.strata if monitor.strata in ("role", "phase") else "",  # of episodes: the same ones, grouped later
    ]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _hash(names: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()
