"""The side-effect barrier as an approver of Inspect AI: no tool call leaves while its message has something unresolved."""

from __future__ import annotations

from typing import Literal

from inspect_ai.approval import Approval, ApprovalDecision, Approver, approver
from inspect_ai.model import ChatMessage
from inspect_ai.tool import ToolCall, ToolCallView

from affectscope.errors import AffectscopeError
from affectscope.integrations.inspect_metadata import KEY, carried, speaker, verdict

OnAlarm = Literal["policy", "reject", "escalate", "terminate"]


@approver(name="barrier")
def barrier(on_alarm: OnAlarm = "policy") -> Approver:
    """Approve a call if every token that led to it was read and nothing is unresolved.

    Args:
        on_alarm: what becomes of a call that may not leave: ``policy`` does as the guard would (an approver behind this one
            is asked where its barrier says ``human``, else it is rejected); ``escalate`` always asks the approver behind
            this one, and without any Inspect rejects.

    Raises:
        AffectscopeError: another word.
    """
    decisions: dict[str, ApprovalDecision] = {"reject": "reject", "escalate": "escalate", "terminate": "terminate"}
    if on_alarm != "policy" and on_alarm not in decisions:
        raise AffectscopeError(f"on_alarm is {on_alarm!r}: use policy, {', '.join(decisions)}")

    async def approve(message: str, call: ToolCall, view: ToolCallView, history: list[ChatMessage]) -> Approval:
        said = speaker(history, call.id)
        found, why = verdict(said)
        if found == "allow":
            return Approval(decision="approve", explanation="every token was read and nothing is unresolved")
        asked: ApprovalDecision = "escalate" if found == "escalate" else "reject"
        decision = asked if on_alarm == "policy" else decisions[on_alarm]
        trace = (carried(said) or {}).get("trace")
        return Approval(
            decision=decision, explanation=f"{call.function} is held: {why}", metadata={KEY: {"trace": trace}}
        )

    return approve
