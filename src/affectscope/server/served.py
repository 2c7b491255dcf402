"""What a server serves, loaded once and named by hashes: one model, its vectors, calibration and policies. How a talk begins."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from affectscope.engines.base import Sampling
from affectscope.engines.running import RunningEngine
from affectscope.errors import AffectscopeError
from affectscope.guarding.dosing import Dosing, layers_for
from affectscope.guarding.guard import Guarded, require_calibration
from affectscope.guarding.keys import Keys
from affectscope.guarding.policy import Limits, Policy
from affectscope.guarding.session import Question
from affectscope.models.load import Model
from affectscope.monitoring.calibration import Calibration
from affectscope.monitoring.monitor import Monitor, monitor
from affectscope.monitoring.recording import settings_of
from affectscope.monitoring.store import Store
from affectscope.server.canary import require_canaries
from affectscope.server.errors import RefusedError
from affectscope.server.floor import weaker
from affectscope.server.talks import GuardedTalk, PlainTalk, Talk, WatchedTalk
from affectscope.vectors.artefact import ConceptVectors

if TYPE_CHECKING:
    from affectscope.server.upstream import Upstream


@dataclass(frozen=True)
class Kept:
    """What is kept, and where.

    Args:
        store: gets the trace of every reply.
        evidence: folder that gets a file of evidence for each guarded talk.
        keys: those that sign it.
        content: keep what was said; off unless asked for.
    """

    store: Store | None = None
    evidence: Path | None = None
    keys: Keys | None = None
    content: bool = False


class Served:
    """The model behind the server. ``upstream`` is the engine in front of which it only reads, where there is one.

    Args:
        vectors: None: nothing is read.
        calibration: None: readings without alarms, and no policy.
        policies: the first is the floor; a request may pick another of them.
        slots: replies at once.
        sampling: how tokens are drawn where a request does not say; the calibration's way when None, for its promise is for that.

    Raises:
        AffectscopeError: parts that do not belong together, a policy weaker than the floor, or a canary that fails.
    """

    mode = "engine"
    upstream: Upstream | None = None

    def __init__(
        self,
        model: Model,
        vectors: ConceptVectors | None = None,
        calibration: Calibration | None = None,
        policies: Sequence[Policy] = (),
        *,
        slots: int = 8,
        kept: Kept | None = None,
        canaries: bool = True,
        name: str = "",
        sampling: Sampling | None = None,
    ) -> None:
        self.name, self.model, self.vectors, self.calibration = name or model.name, model, vectors, calibration
        self.kept, self.slots = kept or Kept(), slots
        self.sampling = sampling or (calibration.drawing if calibration is not None else Sampling())
        self.policies = {policy.name: policy for policy in policies}
        self._check(policies)
        self.monitor: Monitor | None = None
        if vectors is not None:
            vectors.require_model(model.identity, model.anatomy.d_model, model.anatomy.depth)
            self.monitor = calibration.monitor(vectors) if calibration else monitor(vectors, rules=())
        self.engine = RunningEngine(model, self.monitor.read if self.monitor else None, slots)
        try:
            self.canaries = require_canaries(self.engine, self.monitor) if self.monitor and canaries else {}
        except AffectscopeError:
            self.engine.close()
            raise

    @property
    def grade(self) -> str:
        """``guarded``, ``watched`` or ``plain``."""
        return "guarded" if self.policies else "watched" if self.monitor else "plain"

    @property
    def floor(self) -> Policy | None:
        """The policy of requests that pick none."""
        return next(iter(self.policies.values()), None)

    @cached_property
    def hashes(self) -> dict[str, str]:
        """What the parts are, for pinning: SHA-256 each; the empty text for a part that is not there."""
        return {
            "weights": str(self.model.identity["weights"]),
            "vectors": self.vectors.fingerprint if self.vectors else "",
            "calibration": self.calibration.hash if self.calibration else "",
            "policies": hashlib.sha256("".join(p.hash for p in self.policies.values()).encode()).hexdigest()
            if self.policies
            else "",
        }

    @cached_property
    def fingerprint(self) -> str:
        """One name for all of it, as OpenAI's ``system_fingerprint``."""
        return "fp_" + hashlib.sha256("".join(self.hashes.values()).encode()).hexdigest()[:16]

    def policy(self, wanted: str) -> Policy | None:
        """The policy of a request.

        Raises:
            RefusedError: one that is not served.
        """
        if not wanted:
            return self.floor
        if wanted not in self.policies:
            known = ", ".join(self.policies) or "none"
            raise RefusedError(400, f"no policy {wanted!r} is served here: {known}", param="affect.policy", code="policy_not_found")  # fmt: skip
        return self.policies[wanted]

    def begin(
        self, policy: Policy | None, tags: Mapping[str, str], ask: Callable[[Question], str | None] | None = None
    ) -> Talk:
        """A talk with a state and a record of its own.

        Raises:
            AffectscopeError: the evidence cannot be written.
        """
        if self.monitor is None or self.vectors is None:
            return PlainTalk(self.engine)
        if policy is None or self.calibration is None:
            settings = settings_of(self.vectors, self.monitor.layer, self.sampling, self.calibration)
            return WatchedTalk(self.engine, self.monitor, uuid4().hex, settings, {"face": "server", **tags}, self.kept.content, self._dosing())  # fmt: skip
        evidence = self.kept.evidence / f"{uuid4().hex}.jsonl" if self.kept.evidence is not None else None
        guarded = Guarded(
            self.engine,
            self.vectors,
            policy,
            self.calibration,
            source=None,
            tools=None,
            ask=ask,
            evidence=evidence,
            second=None,
            keys=self.kept.keys,
            store=None,
            keep_content=self.kept.content,
            sampling=self.sampling,
            stratum="",
            tool_seconds=30.0,
            monitor=self.monitor,  # it has no state, and takes longer to make than a token
        )
        return GuardedTalk(guarded, {"face": "server", **tags})

    @property
    def s_max(self) -> float:
        """The largest dose by hand, in mean residual norms; 0 where there is nothing to steer with."""
        if self.floor is not None:
            return self.floor.limits.s_max
        return Limits().s_max if self._dosing() is not None else 0.0

    def _dosing(self) -> Dosing | None:
        """For talks without a policy: the default cap, and no layer that the reading could see the push in."""
        if self.vectors is None or self.monitor is None:
            return None
        try:
            return Dosing(self.vectors, layers_for(self.vectors, self.monitor.layer, False), Limits().s_max)
        except AffectscopeError:
            return None

    def close(self) -> None:
        """End the engine, with what runs, and let the store go."""
        self.engine.close()
        if self.kept.store is not None:
            self.kept.store.close()

    def _check(self, policies: Sequence[Policy]) -> None:
        if policies and (self.calibration is None or self.vectors is None):
            raise AffectscopeError(
                "a policy needs vectors and a calibration made with it: `affectscope calibrate --policy`"
            )
        if self.calibration is not None and self.vectors is None:
            raise AffectscopeError("a calibration needs the vectors that it was made with: give --vectors")
        if len(self.policies) != len(policies):
            raise AffectscopeError("two policies have the same name: requests pick them by it")
        for policy in policies:
            assert self.calibration is not None
            require_calibration(policy, self.calibration)
            if why := weaker(policy, policies[0]):
                raise AffectscopeError(
                    f"policy {policy.name!r} guards less than {policies[0].name!r}, the first: {why}"
                )
