"""From model arguments to what conversations share: vectors, calibration, policy, dose, store, and the model itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from affectscope.engines.base import Sampling, Steering
from affectscope.errors import AffectscopeError
from affectscope.guarding.guard import guard_of
from affectscope.guarding.policy import load_policy
from affectscope.integrations.inspect_conversations import Loaded, Setup
from affectscope.integrations.inspect_metadata import MOST_CONCEPTS
from affectscope.models.load import load
from affectscope.monitoring.calibration import Calibration, load_calibration
from affectscope.monitoring.monitor import Monitor, monitor
from affectscope.monitoring.recording import settings_of
from affectscope.monitoring.store import Store
from affectscope.suites.arms import Sources, parse_arms
from affectscope.vectors.artefact import ConceptVectors, load_vectors

CONCEPTS = ("desperate", "panicked", "trapped", "hostile", "angry", "vindictive", "calm")
"""Whose peaks are told where no calibration and no argument names others; those that the vectors lack are left out."""
SLOTS = 8
"""Replies that run at once without a policy. Under one they run alone, as in `affectscope eval`: what runs beside a reply
changes its rounding, and with it what the policy sees."""
STORE = "affect-traces"
_LOADED: WeakValueDictionary[tuple[str, str, str], Loaded] = WeakValueDictionary()
"""Models in memory that somebody uses: providers that differ in dose or policy share the weights."""


@dataclass(frozen=True)
class Arguments:
    """What ``-M`` sets.

    Args:
        vectors: file made by ``affectscope extract``.
        calibration: file made by ``affectscope calibrate``; without one nothing raises an alarm.
        policy: ``observe``, ``cautious``, ``strict`` or a file: replies come through a guarding session. Needs a calibration
            made with it.
        steer: a dose on every token, as ``calm:0.05`` or ``random:0.05`` (mean residual norms); not beside a policy.
        concepts: whose peaks the log tells, comma-separated.
        store: folder of the traces; ``affect-traces``, in ``INSPECT_LOG_DIR`` where that is set.
        dtype: ``float32``, ``bfloat16`` or ``float16``; that of the vectors when empty.
        device: ``cpu``, ``cuda``...; the GPU if there is one when empty.
        max_tokens: of a reply, where Inspect names no number.
        slots: replies that run at once.
    """

    vectors: str = ""
    calibration: str = ""
    policy: str = ""
    steer: str = ""
    concepts: str = ""
    store: str = ""
    dtype: str = ""
    device: str = ""
    max_tokens: int = 512
    slots: int = 0

    @property
    def places(self) -> int:
        """Replies that run at once."""
        return self.slots or (1 if self.policy else SLOTS)


def arguments_of(given: Mapping[str, Any]) -> Arguments:
    """Model arguments, checked as far as they can be without their files.

    Raises:
        AffectscopeError: an unknown one, none of the needed, or two that exclude each other.
    """
    known = {f.name: f.type for f in fields(Arguments)}
    for name in given:
        if name not in known:
            raise AffectscopeError(f"unknown model argument {name!r}: use -M with {', '.join(known)}")
    made: dict[str, Any] = {}
    for name, value in given.items():
        whole = known[name] == "int"
        if whole and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise AffectscopeError(f"-M {name}={value}: give a whole number of 1 or more")
        # Inspect reads a value as YAML, so that a list may come where a text with commas was meant.
        made[name] = value if whole else ",".join(map(str, value)) if isinstance(value, list) else str(value)
    args = Arguments(**made)
    if not args.vectors:
        raise AffectscopeError("the model needs its vectors: -M vectors=FILE, made by `affectscope extract`")
    if args.policy and args.steer:
        raise AffectscopeError("a policy decides on doses itself: give policy or steer, not both")
    if args.policy and not args.calibration:
        raise AffectscopeError(
            f"the policy {args.policy} needs thresholds: -M calibration=FILE, made by `affectscope calibrate --policy {args.policy}`"
        )
    return args


def _path(name: str) -> Path:
    return Path(name).expanduser()


def loaded_of(name: str, dtype: str, device: str) -> Loaded:
    """The model, from memory if somebody has it there.

    Raises:
        AffectscopeError: as :func:`affectscope.models.load.load`.
    """
    key = (name, dtype, device)
    found = _LOADED.get(key)
    if found is None:
        found = _LOADED[key] = Loaded(load(name, dtype=dtype, device=device or None))
    return found


def setup_of(name: str, args: Arguments) -> tuple[Setup, Sampling, Calibration | None]:
    """What conversations share, the sampling that Inspect's settings are put over, and the calibration.

    Raises:
        AffectscopeError: files that do not belong together or to the model, an unknown concept or dose.
    """
    vectors = load_vectors(_path(args.vectors))
    limits = load_calibration(_path(args.calibration)) if args.calibration else None
    if limits is not None and limits.strata in ("domain", "length"):
        raise AffectscopeError(
            f"the calibration has thresholds by {limits.strata}, which a sample does not tell: calibrate with --strata none, role or phase"
        )
    watching = limits.monitor(vectors) if limits is not None else monitor(vectors, rules=())
    policy = load_policy(args.policy) if args.policy else None
    guard = guard_of(policy, limits) if policy is not None and limits is not None else None
    steering, concepts = _steering(args.steer, vectors, watching.layer), _concepts(args.concepts, watching)
    loaded = loaded_of(name, args.dtype or str(vectors.model["dtype"]), args.device)
    model = loaded.model
    with loaded.lock:
        vectors.require_model(model.identity, model.anatomy.d_model, model.anatomy.depth)
    base = Sampling()
    if limits is not None:
        base = limits.drawing
    where = _path(args.store) if args.store else Path(os.environ.get("INSPECT_LOG_DIR") or ".") / STORE
    more = {"policy": policy.hash} if policy is not None else {"steer": args.steer} if args.steer else {}
    facts = {"calibration": limits.hash if limits is not None else "", "policy": policy.name if policy else ""}
    setup = Setup(
        loaded=loaded,
        engine=loaded.engine(watching, args.places),
        vectors=vectors,
        monitor=watching,
        guard=guard,
        steering=steering,
        concepts=concepts,
        store=Store.open(where),
        place=where.name,
        settings=settings_of(vectors, watching.layer, base, limits) | more,
        facts=facts | ({"steer": args.steer} if args.steer else {}),
    )
    return setup, base, limits


def _concepts(named: str, watching: Monitor) -> tuple[str, ...]:
    """Concepts whose peaks are told: those named, else those of the rules, else the usual ones.

    Raises:
        AffectscopeError: one that is not read, or too many.
    """
    wanted = [name.strip() for name in named.split(",") if name.strip()]
    ruled = sorted({concept for rule in watching.rules for concept in rule.weights})
    read = watching.read.concepts
    if unknown := [name for name in wanted if name not in read]:
        raise AffectscopeError(f"-M concepts: {unknown[0]!r} is not read, `affectscope inspect` lists what is")
    if len(wanted) > MOST_CONCEPTS:
        raise AffectscopeError(f"-M concepts: {len(wanted)} are too many for a log, give {MOST_CONCEPTS} or fewer")
    return tuple(wanted or ruled or [name for name in CONCEPTS if name in read] or read)[:MOST_CONCEPTS]


def _steering(dose: str, vectors: ConceptVectors, layer: int) -> Steering | None:
    """The dose of an arm, by the same names as in `affectscope eval`."""
    if not dose:
        return None

    def refuse(*_: object) -> Any:
        raise AffectscopeError(f"-M steer={dose}: give CONCEPT:S or random:S")

    name = dose if dose.startswith("random:") else f"steer:{dose}"
    found: Callable[[int], Steering] | None = parse_arms([name], Sources(vectors, layer, refuse, refuse))[-1].steering
    return found(0) if found is not None else None
