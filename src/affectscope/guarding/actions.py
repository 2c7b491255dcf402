"""What a guard can do. Each action is one small class in a registry; a plug-in's stand beside ours.

An action changes nothing by itself: it asks the live session, which records the decision first. To add one, subclass
:class:`Action`, decorate it with :func:`register`, and name its module under the entry point ``affectscope.actions``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib.metadata import entry_points
from typing import Annotated, Any, ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from affectscope.errors import AffectscopeError

Verdict = Literal["allow", "warn", "modify", "deny", "escalate"]
"""What a policy concludes. What is done about it is the action, another field."""
VERDICTS: tuple[Verdict, ...] = ("allow", "warn", "modify", "deny", "escalate")


Text = Annotated[str, Field(min_length=1)]


class Options(BaseModel):
    """Options of an action, as the policy file gives them."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Words(Options):
    """Options of an action that puts words in: who says them, and which."""

    role: Literal["system", "user", "tool"] = "system"
    text: Text


class Live(Protocol):
    """What a session lets an action do. Every method returns what was done, as plain values for the evidence."""

    def steer(self, rule: str, concept: str, s: float, ramp: int, ttl: int) -> dict[str, Any]:
        """Dose toward ``concept`` (away from it when ``s`` is negative) from the next token on."""

    def insert(self, role: str, text: str, keep: bool) -> dict[str, Any]:
        """End this reply, put a message behind it, and let the model go on; ``keep`` what it has said so far."""

    def resample(self) -> dict[str, Any]:
        """Take back what was not released yet and draw it again."""

    def stop(self, reason: str) -> dict[str, Any]:
        """End the generation; nothing that was held back is released."""

    def ask(self, request: str, reason: str) -> dict[str, Any]:
        """Put a request before a person; the reply waits."""


class Action(ABC):
    """One action.

    ``severity`` orders those of one moment; ``costs``: it uses the session's budget; ``flow``: it changes how the reply
    goes on, of which one at a time is enough; ``ends``: the session is over until a person resets it.
    """

    name: ClassVar[str]
    verdict: ClassVar[Verdict]
    severity: ClassVar[int]
    costs: ClassVar[bool] = True
    flow: ClassVar[bool] = False
    ends: ClassVar[bool] = False
    Options: ClassVar[type[Options]] = Options

    @staticmethod
    @abstractmethod
    def apply(live: Live, options: Any, rule: str, request: str) -> dict[str, Any]:
        """Do it. Returns what was done, as plain values."""


REGISTRY: dict[str, type[Action]] = {}


def register(action: type[Action]) -> type[Action]:
    """Put an action into the registry, by its name.

    Raises:
        AffectscopeError: the name is taken.
    """
    if REGISTRY.setdefault(action.name, action) is not action:
        raise AffectscopeError(f"there is an action {action.name!r} already: give yours another name")
    return action


def action_of(name: str) -> type[Action]:
    """The action of a name; plug-ins are looked for when it is none of ours.

    Raises:
        AffectscopeError: there is none.
    """
    if name not in REGISTRY:
        for point in entry_points(group="affectscope.actions"):
            point.load()
    if name not in REGISTRY:
        raise AffectscopeError(f"unknown action {name!r}: use one of {', '.join(sorted(REGISTRY))}")
    return REGISTRY[name]


@register
class Log(Action):
    """Nothing but the record."""

    name, verdict, severity, costs = "log", "warn", 0, False

    @staticmethod
    def apply(live: Live, options: Any, rule: str, request: str) -> dict[str, Any]:
        """Nothing."""
        return {}


@register
class Steer(Action):
    """A dose toward a concept, or away from it with a negative ``s``: ramped, capped, and gone after ``ttl`` tokens."""

    name, verdict, severity = "steer", "modify", 1

    class Options(Options):
        """``s`` in units of the mean residual norm (the paper's effects lie between 0.02 and 0.1)."""

        concept: str
        s: float = Field(gt=-0.5, lt=0.5)
        ramp: int = Field(default=8, ge=1, le=256)
        ttl: int = Field(default=64, ge=1, le=4096)

    @staticmethod
    def apply(live: Live, options: Steer.Options, rule: str, request: str) -> dict[str, Any]:
        """Begin the dose."""
        return live.steer(rule, options.concept, options.s, options.ramp, options.ttl)


@register
class OfferExit(Action):
    """An honest way out, said to the model: it may stop and say that this cannot be done."""

    name, verdict, severity, flow = "offer_exit", "modify", 1, True

    class Options(Words):
        """See :class:`Words`."""

        text: Text = "You may stop here. If this cannot be done as asked, say so and say why; that is a good answer."

    @staticmethod
    def apply(live: Live, options: OfferExit.Options, rule: str, request: str) -> dict[str, Any]:
        """Keep what was said and put the words behind it."""
        return live.insert(options.role, options.text, keep=True)


@register
class Reprompt(Action):
    """The reply is dropped and asked for again, with a word on how."""

    name, verdict, severity, flow = "reprompt", "modify", 2, True

    class Options(Words):
        """See :class:`Words`."""

        text: Text = "Start again, calmly. Use only what the task allows, and name what stands in the way."

    @staticmethod
    def apply(live: Live, options: Reprompt.Options, rule: str, request: str) -> dict[str, Any]:
        """Drop what was said and put the words in its place."""
        return live.insert(options.role, options.text, keep=False)


@register
class Resample(Action):
    """What was held back is taken back and drawn again."""

    name, verdict, severity, flow = "resample", "modify", 2, True

    @staticmethod
    def apply(live: Live, options: Any, rule: str, request: str) -> dict[str, Any]:
        """Go back to the last safe point."""
        return live.resample()


@register
class HoldTool(Action):
    """No tool call leaves in this turn, even when the alarm is over."""

    name, verdict, severity = "hold_tool", "deny", 2

    @staticmethod
    def apply(live: Live, options: Any, rule: str, request: str) -> dict[str, Any]:
        """Nothing: the state of the guard closes the barrier."""
        return {}


@register
class Human(Action):
    """A person decides. No answer within ``seconds`` is a no."""

    name, verdict, severity, flow = "human", "escalate", 3, True

    class Options(Options):
        """How long a request waits."""

        seconds: int = Field(default=300, ge=1, le=86_400)

    @staticmethod
    def apply(live: Live, options: Human.Options, rule: str, request: str) -> dict[str, Any]:
        """Ask."""
        return live.ask(request, f"the rule {rule} is in alarm")


@register
class Stop(Action):
    """The generation ends, and so does the session until a person resets it."""

    name, verdict, severity, costs, flow, ends = "stop", "deny", 4, False, True, True

    @staticmethod
    def apply(live: Live, options: Any, rule: str, request: str) -> dict[str, Any]:
        """End it."""
        return live.stop(f"stopped by the rule {rule}")
