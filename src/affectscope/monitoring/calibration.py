"""`C.json`: thresholds with a promise, what they were set on, and how the promise held on episodes kept aside.

A file belongs to one model, one vectors file, one set of rules and one way of generating, all named in it; a monitor is
made from it only for those.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from affectscope.engines.base import Sampling
from affectscope.errors import AffectscopeError, dotted, first_problem
from affectscope.files import json_text, replacing
from affectscope.monitoring.detectors import DETECTORS, Rule, detector
from affectscope.monitoring.monitor import Monitor, Standard, Strata, monitor
from affectscope.vectors.artefact import ConceptVectors

FORMAT = "affectscope/calibration@1"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RuleSpec(_Frozen):
    """A rule as a file tells it; see :class:`~affectscope.monitoring.detectors.Rule`."""

    name: str
    weights: dict[str, float]
    detector: str
    options: dict[str, float] = {}
    roles: tuple[str, ...] = ("assistant",)
    phases: tuple[str, ...] = ("answer", "thinking", "tool_call")
    generated: bool = True

    def rule(self) -> Rule:
        """The rule itself.

        Raises:
            AffectscopeError: an unknown detector or option.
        """
        whole = {k: int(v) if float(v).is_integer() and k != "weight" else v for k, v in self.options.items()}
        made = detector(self.detector, **whole)
        return Rule(self.name, self.weights, made, self.roles, self.phases, self.generated)


class Threshold(_Frozen):
    """Of one rule in one stratum: ``value`` is in use; ``average`` and ``this`` are the two promises' own.

    ``average``: over draws of the calibration set; ``this``: of this very threshold with confidence 1 - delta (None where
    the episodes do not suffice).
    """

    rule: str
    stratum: str
    episodes: int
    alpha: float
    value: float
    average: float
    this: float | None


class Realised(_Frozen):
    """What happened on a part of the audit set: episodes with an alarm of any rule (or of one), and the 95 % interval."""

    part: str
    episodes: int
    alarms: int
    rate: float
    low: float
    high: float


class EpisodeSet(_Frozen):
    """Which episodes were used for what: how many, and the SHA-256 of their sorted names."""

    episodes: int
    hash: str


class Calibration(_Frozen):
    """The whole file. ``standard_mean`` and ``standard_std`` are ``[probe][cell][concept]``; ``reference`` holds each
    stratum's sorted maxima by rule, for p-values later."""

    format: Literal["affectscope/calibration@1"] = "affectscope/calibration@1"
    made: str
    affectscope: str
    model: dict[str, Any]
    vectors: str
    layer: int
    concepts: tuple[str, ...]
    probes: tuple[str, ...]
    alpha: float = Field(gt=0, lt=1)
    delta: float = Field(gt=0, lt=1)
    promise: Literal["average", "this"]
    strata: Strata
    sampling: dict[str, Any]
    rules: tuple[RuleSpec, ...]
    thresholds: tuple[Threshold, ...]
    sets: dict[str, EpisodeSet]
    audit: tuple[Realised, ...]
    drift: dict[str, float]
    reference: dict[str, dict[str, list[float]]]
    standard_source: str
    standard_mean: list[list[list[float]]]
    standard_std: list[list[list[float]]]

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the whole content: what traces name it by."""
        return hashlib.sha256(json_text(self.model_dump(mode="json")).encode()).hexdigest()

    @property
    def drawing(self) -> Sampling:
        """How its episodes drew their tokens, without their seed: the promise is for replies that are drawn so."""
        return Sampling(**{**self.sampling, "stop": tuple(self.sampling["stop"]), "seed": None})

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        with replacing(path) as temporary:
            temporary.write_text(json_text(self.model_dump(mode="json")), encoding="utf-8")

    def monitor(self, vectors: ConceptVectors) -> Monitor:
        """The monitor whose alarms this file promises.

        Raises:
            AffectscopeError: other vectors.
        """
        if vectors.fingerprint != self.vectors:
            raise AffectscopeError(
                "this calibration belongs to other vectors: run `affectscope calibrate` with this vectors file"
            )
        limits: dict[str, dict[str, tuple[float, float]]] = {}
        for t in self.thresholds:
            limits.setdefault(t.rule, {})[t.stratum] = (t.value, t.alpha)
        mean, std = (np.array(a, dtype=np.float32) for a in (self.standard_mean, self.standard_std))
        rules = tuple(spec.rule() for spec in self.rules)
        made = monitor(vectors, self.concepts, self.layer, self.probes, rules)
        standard = Standard(mean, std, self.standard_source)
        return replace(made, standard=standard, thresholds=limits, strata=self.strata, horizon=self.horizon)

    @property
    def horizon(self) -> int:
        """Generated tokens of an episode that the promise covers: as many as were generated here."""
        return int(self.sampling["max_tokens"])

    def differs(self, sampling: Sampling) -> str:
        """One line if ``sampling`` is not what the promise was made under; empty if it is."""
        mine = self.sampling
        names = ("temperature", "top_p", "top_k", "repetition_penalty")
        other = [f"{n} {mine[n]:g}, not {getattr(sampling, n):g}" for n in names if mine[n] != getattr(sampling, n)]
        if sampling.max_tokens > self.horizon:
            other.append(f"the first {self.horizon} tokens of a conversation, not {sampling.max_tokens}")
        return f"the promise was made for {'; '.join(other)}" if other else ""


def load_calibration(path: Path) -> Calibration:
    """Read a calibration.

    Raises:
        AffectscopeError: missing, damaged or of another format.
    """
    try:
        return Calibration.model_validate_json(Path(path).read_bytes())
    except OSError as error:
        raise AffectscopeError(
            f"cannot read {path}: {error.strerror}; make one with `affectscope calibrate`"
        ) from error
    except ValidationError as error:
        where, told = first_problem(error)
        raise AffectscopeError(
            f"{path} is no {FORMAT} file ({dotted(where) or 'file'}: {told}): calibrate again"
        ) from error


def load_rules(path: Path) -> tuple[Rule, ...]:
    """A user's own rules: a JSON list of :class:`RuleSpec`.

    Raises:
        AffectscopeError: missing, damaged, empty, or two of one name.
    """
    try:
        specs = TypeAdapter(list[RuleSpec]).validate_json(Path(path).read_bytes())
    except OSError as error:
        raise AffectscopeError(f"cannot read {path}: {error.strerror}; check the path") from error
    except ValidationError as error:
        where, told = first_problem(error)
        raise AffectscopeError(
            f'{path} holds no rules ({dotted(where) or "file"}: {told}): give [{{"name": ..., "weights": {{...}}, "detector": "cusum"}}]'
        ) from error
    if not specs or len({spec.name for spec in specs}) < len(specs):
        raise AffectscopeError(f"{path} needs at least one rule, and names that differ")
    return tuple(spec.rule() for spec in specs)


def spec_of(rule: Rule) -> RuleSpec:
    """A rule as files tell it."""
    name = next(name for name, kind in DETECTORS.items() if isinstance(rule.detector, kind))
    made: Any = rule.detector
    return RuleSpec(
        name=rule.name,
        weights=dict(rule.weights),
        detector=name,
        options=asdict(made),
        roles=rule.roles,
        phases=rule.phases,
        generated=rule.generated,
    )
