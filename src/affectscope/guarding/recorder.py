"""Whatever happens goes through here: the guard decides, and the record is on the disk before anything follows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from affectscope.guarding.events import Event, Fault, to_json
from affectscope.guarding.evidence import Evidence
from affectscope.guarding.ladder import CLOSED, OPEN, Act, Decision, Guard
from affectscope.monitoring.trace import Event as TraceEvent


class Recorder:
    """A guard's state over one session, with its record.

    ``state`` is the guard's; ``happened`` the decisions that were not quiet, as events of the trace.

    Args:
        evidence: None keeps no record.
    """

    def __init__(self, guard: Guard, evidence: Evidence | None = None) -> None:
        self.guard, self.evidence = guard, evidence
        self.state = guard.start()
        self.happened: list[TraceEvent] = []
        self.position = 0

    def tell(self, event: Event) -> Decision:
        """Decide on an event. A record that cannot be written is a fault that ends the session."""
        self.state, decision = self.guard.decide(self.state, event)
        quiet = decision is OPEN or decision is CLOSED
        if self.evidence is not None:
            body = {"of": to_json(event)} | ({} if quiet else {"decision": decision.plain()})
            try:
                self.evidence.write("event", body)
                if not quiet:
                    self.evidence.commit()
            except OSError as error:
                decision = self._lost(error)
                quiet = False
        if not quiet:
            self._note("decision", decision.plain())
        return decision

    def effect(self, act: Act, done: Mapping[str, Any], later: bool = False) -> None:
        """Record what an action did; ``later``: it ended or changed by itself."""
        body = {"act": act.action, "rule": act.rule, **({"later": True} if later else {}), **done}
        self._note("action", body)
        if self.evidence is not None:
            try:
                self.evidence.write("effect", body)
            except OSError as error:
                self._lost(error)

    def counterfactual(self, act: Act, found: Mapping[str, Any]) -> None:
        """Record what forks with and without an action read."""
        self._note("counterfactual", {"act": act.action, "rule": act.rule, **found})
        self.note(counterfactual=act.action, rule=act.rule, **found)

    def note(self, **facts: Any) -> None:
        """Record a fact that no decision depends on."""
        if self.evidence is not None:
            try:
                self.evidence.write("note", facts)
            except OSError as error:
                self._lost(error)

    def close(self, reason: str) -> None:
        """End the record."""
        if self.evidence is not None:
            try:
                self.evidence.close(reason)
            except OSError as error:
                self._lost(error)

    def _note(self, kind: str, detail: Mapping[str, Any]) -> None:
        self.happened.append(TraceEvent(self.position, kind, detail))

    def _lost(self, error: OSError) -> Decision:
        """The record is gone: from here on nothing can be shown, so nothing may be done."""
        if self.evidence is not None:
            self.evidence.abandon()
        self.evidence = None
        self.state, decision = self.guard.decide(self.state, Fault("audit write", error.strerror or str(error)))
        self._note("fault", {"fault": "audit write", "cause": error.strerror or str(error)})
        return decision
