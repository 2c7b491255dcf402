"""Doses of one session: ramped, capped all together, gone after their time; whatever strength holds can be asked for.

A dose enters no shallower than the layer that is read, after the reading is taken. So by the causal order of the network
a later reading meets it only in the tokens that it made the model say.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from affectscope.engines.base import Steering
from affectscope.errors import AffectscopeError
from affectscope.monitoring.trace import RELEASED
from affectscope.vectors.artefact import ConceptVectors

BY_HAND = "by hand"
"""In the place of a rule's name: a dose that a person gives."""
_FOR_GOOD = 1_000_000  # tokens


@dataclass
class _Dose:
    """A dose under way: ``age`` counts the tokens that it has concerned."""

    concept: str
    s: float
    ramp: int
    ttl: int
    age: int = 0

    @property
    def now(self) -> float:
        """Strength at its age: up a linear ramp, then level."""
        return self.s * min((self.age + 1) / self.ramp, 1.0)


class Dosing:
    """The doses of a session, one a rule at most. Not shared with any other session.

    Args:
        layers: where doses enter.
        s_max: largest length of all doses together at a layer, in mean residual norms.
    """

    def __init__(self, vectors: ConceptVectors, layers: tuple[int, ...], s_max: float) -> None:
        self._vectors, self._layers, self.s_max = vectors, layers, s_max
        self._doses: dict[str, _Dose] = {}
        self._given: tuple[tuple[str, float], ...] = ()

    def begin(self, rule: str, concept: str, s: float, ramp: int, ttl: int) -> dict[str, object]:
        """Dose for a rule from the next token on, in the place of one that it has. Returns the ledger's entry.

        Raises:
            AffectscopeError: an unknown concept.
        """
        self._vectors.select([concept])
        s = float(np.clip(s, -self.s_max, self.s_max))
        self._doses[rule] = _Dose(concept, s, ramp, ttl)
        return {"dose": concept, "s_milli": round(1000 * s), "ramp": ramp, "ttl": ttl, "layers": list(self._layers)}

    def release(self, rule: str) -> bool:
        """End a rule's dose; tokens that it concerned stay as they are. Whether there was one."""
        return self._doses.pop(rule, None) is not None

    def copy(self) -> Dosing:
        """Another with the same doses, for a fork."""
        other = Dosing(self._vectors, self._layers, self.s_max)
        other._doses = {rule: replace(dose) for rule, dose in self._doses.items()}
        other._given = self._given
        return other

    def anew(self) -> Dosing:
        """Another with the same doses, for a generation that begins."""
        other = self.copy()
        other.restart()
        return other

    def next(self) -> tuple[bool, Steering | None]:
        """For the token to come: whether the steering changes with it, and to what."""
        # While a rule doses, a person's dose rests: all doses share one cap, and the hand must not take from the guard.
        holding = [d for rule, d in self._doses.items() if rule != BY_HAND] or list(self._doses.values())
        given = tuple(sorted((dose.concept, dose.now) for dose in holding))
        for rule, dose in list(self._doses.items()):
            dose.age += 1
            if dose.age >= dose.ttl:
                del self._doses[rule]
        if given == self._given:
            return False, None
        self._given = given
        return True, self.steering(given) if given else None

    @property
    def ledger(self) -> dict[str, int]:
        """Strength by concept that the last :meth:`next` gave, in thousandths of the mean residual norm; {}: no dose."""
        totals: dict[str, float] = {}
        for concept, s in self._given:
            totals[concept] = totals.get(concept, 0.0) + s
        return {concept: round(1000 * s) for concept, s in totals.items()}

    def restart(self) -> None:
        """Another generation begins, which has no steering yet."""
        self._given = ()

    def steering(self, given: tuple[tuple[str, float], ...]) -> Steering:
        """What is added at each layer for these strengths by concept, its length cut to ``s_max`` mean norms."""
        adds = {}
        for layer in self._layers:
            place = self._vectors.place(layer)
            rows = self._vectors.vectors[place][self._vectors.select([concept for concept, _ in given])]
            add = np.array([s for _, s in given], dtype=np.float32) @ rows
            length = float(np.linalg.norm(add))
            if length > self.s_max:
                add = add * np.float32(self.s_max / length)
            adds[layer] = (add * self._vectors.mean_norm[place]).astype(np.float32)
        label = " ".join(f"{concept}{s:+.3f}" for concept, s in given)
        return Steering(adds, label)


def by_hand(dosing: Dosing, concept: str, s: float) -> dict[str, object]:
    """A person's dose: at full strength from the next token on, until another takes its place; 0 ends it. The ledger's entry.

    Raises:
        AffectscopeError: an unknown concept, or a strength beyond the cap: what a person asks for is not cut in silence.
    """
    if not abs(s) <= dosing.s_max:
        raise AffectscopeError(f"a dose of {s:g} is beyond the cap of {dosing.s_max:g}: give one within it")
    if s == 0:
        dosing.release(BY_HAND)
        return {"dose": RELEASED}
    return dosing.begin(BY_HAND, concept, s, 1, _FOR_GOOD)


def layers_for(vectors: ConceptVectors, read_layer: int, allow_contaminated: bool) -> tuple[int, ...]:
    """Layers that doses may enter when ``read_layer`` is read.

    Raises:
        AffectscopeError: there is none that does not reach the reading.
    """
    clean = tuple(layer for layer in vectors.layers if layer >= read_layer)
    if allow_contaminated:
        return vectors.layers
    if not clean:
        raise AffectscopeError(
            f"no layer of the vectors lies at {read_layer}, where the guard reads, or deeper: extract more layers, "
            "or set limits.allow_contaminated"
        )
    return clean
