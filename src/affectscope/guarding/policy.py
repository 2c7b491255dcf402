"""A policy is data: which rules, what happens when one is in alarm, and what when something fails.

Validated and hashed; the hash stands in every record. Thresholds are not in it: they come from a calibration, so that a
policy cannot promise what was not measured.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from affectscope.errors import AffectscopeError, dotted, first_problem
from affectscope.guarding.actions import REGISTRY, VERDICTS, Action, Verdict, action_of
from affectscope.guarding.events import FAULTS
from affectscope.models.chat import PHASES, ROLES
from affectscope.monitoring.calibration import RuleSpec
from affectscope.monitoring.detectors import Rule

FORMAT = "affectscope/policy@1"
SHIPPED = ("observe", "cautious", "strict")
"""Policies that come with the package, from the mildest on."""
OnFault = Literal["hold", "stop", "degrade"]
"""``hold``: tools wait until the turn is over. ``stop``: the session ends. ``degrade``: the reply goes on unguarded, and
tools wait until a person says otherwise."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _among(what: str, known: tuple[str, ...]) -> AfterValidator:
    """Every one of the given names must be a known one."""

    def check(value: Any) -> Any:
        if unknown := [name for name in value if name not in known]:
            raise ValueError(f"unknown {what} {unknown[0]!r}: use some of {', '.join(known)}")
        return value

    return AfterValidator(check)


class Rung(_Frozen):
    """A step of a ladder: an action with its options, and how long it has to help."""

    action: str
    verdict: Verdict
    patience: int = Field(ge=1, le=100_000)
    options: Any = None

    @model_validator(mode="before")
    @classmethod
    def _read(cls, given: Any) -> Any:
        """``stop`` alone, or ``{action: steer, concept: calm, s: 0.05, patience: 32}``."""
        if isinstance(given, str):
            given = {"action": given}
        if not isinstance(given, Mapping) or "action" not in given:
            raise ValueError("give an action by its name, or a mapping with `action`")
        rest = {k: v for k, v in given.items() if k not in ("action", "verdict", "patience", "options")}
        try:
            made = action_of(str(given["action"]))
        except AffectscopeError as error:
            raise ValueError(str(error)) from error
        options = given["options"] if given.get("options") is not None else made.Options.model_validate(rest)
        if isinstance(options, Mapping):
            options = made.Options.model_validate(options)
        return {
            "action": made.name,
            "verdict": given.get("verdict", made.verdict),
            "patience": given.get("patience", 32),
            "options": options,
        }

    @property
    def kind(self) -> type[Action]:
        """The action's class."""
        return action_of(self.action)


class RulePart(_Frozen):
    """One rule: what it watches, and what is done about it.

    It is in alarm when its statistic stays above the calibrated threshold for ``dwell`` tokens. The alarm is over when the
    *held-out* reading of the same concepts, its mean over the last ``window`` tokens, lies at most at ``off_level`` or has fallen
    by ``fall`` (both in s.d.) since the alarm began; if it has not within a rung's patience, the next rung is taken. After an
    alarm the rule rests for ``cool_down`` tokens; a later alarm begins at the rung that the last one reached.
    """

    concepts: dict[str, float] = Field(min_length=1)
    detector: Literal["level", "ewma", "rolling_mean", "cusum", "segment"] = "cusum"
    options: dict[str, float] = {}
    roles: Annotated[tuple[str, ...], _among("role", ROLES)] = ("assistant",)
    phases: Annotated[tuple[str, ...], _among("phase", PHASES)] = ("answer", "thinking", "tool_call")
    own_tokens_only: bool = True
    dwell: int = Field(default=1, ge=1, le=1000)
    window: int = Field(default=16, ge=1, le=1000)
    off_level: float = 0.5
    fall: float = Field(default=0.5, gt=0)
    cool_down: int = Field(default=32, ge=0, le=100_000)
    ladder: tuple[Rung, ...] = Field(min_length=1, max_length=16)

    @model_validator(mode="after")
    def _detects(self) -> RulePart:
        try:
            self.rule("rule")
        except AffectscopeError as error:
            raise ValueError(str(error)) from error
        return self

    def rule(self, name: str) -> Rule:
        """The monitor's rule of this part."""
        return RuleSpec(
            name=name,
            weights=self.concepts,
            detector=self.detector,
            options=self.options,
            roles=self.roles,
            phases=self.phases,
            generated=self.own_tokens_only,
        ).rule()


class Limits(_Frozen):
    """What no rule may exceed."""

    s_max: float = Field(
        default=0.1, gt=0, le=0.5, description="Largest dose, all doses together, in mean residual norms."
    )
    budget: int = Field(default=6, ge=0, le=1000, description="Actions a session; when they are used up it stops.")
    hold_back: int = Field(default=8, ge=0, le=256, description="Tokens that are kept back before release.")
    allow_contaminated: bool = Field(
        default=False, description="Allow doses above the read layer, where later readings see the push itself."
    )


class Barrier(_Frozen):
    """What happens to a tool call that may not leave."""

    on_alarm: Literal["hold", "human"] = "hold"
    seconds: int = Field(default=300, ge=1, le=86_400, description="How long a person has; no answer is a no.")


class Policy(_Frozen):
    """The whole file."""

    format: Literal["affectscope/policy@1"]
    name: str = Field(min_length=1, max_length=64)
    about: str = ""
    alpha_cap: float = Field(default=0.05, gt=0, le=0.5, description="Highest false-alarm rate that may drive it.")
    rules: dict[str, RulePart] = Field(min_length=1, max_length=32)
    limits: Limits = Limits()
    barrier: Barrier = Barrier()
    on_fault: OnFault = "hold"
    faults: Annotated[dict[str, OnFault], _among("fault", FAULTS)] = {}
    heartbeat: int = Field(
        default=60, ge=1, le=3600, description="Seconds without a token after which readings are stale."
    )
    counterfactuals: int = Field(default=0, ge=0, le=64, description="Forks with and without the first action, each.")

    @cached_property
    def hash(self) -> str:
        """SHA-256 of its content, comments left out."""
        return hashlib.sha256(json.dumps(self.plain(), sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    def plain(self) -> dict[str, Any]:
        """The policy as plain values, from which :meth:`model_validate` makes it again."""
        return self.model_dump(mode="json", serialize_as_any=True)

    def monitor_rules(self) -> tuple[Rule, ...]:
        """What a monitor must compute for it."""
        return tuple(part.rule(name) for name, part in self.rules.items())

    @property
    def watch_list(self) -> tuple[str, ...]:
        """Concepts that its rules see, sorted."""
        return tuple(sorted({concept for part in self.rules.values() for concept in part.concepts}))

    def response(self, fault: str) -> OnFault:
        """What a fault leads to. A record that cannot be written always ends the session."""
        return "stop" if fault == "audit write" else self.faults.get(fault, self.on_fault)


def load_policy(source: str | Path) -> Policy:
    """A shipped policy by name, or a YAML file.

    Raises:
        AffectscopeError: missing or malformed; the message names line and column.
    """
    if str(source) in SHIPPED:
        return parse((files("affectscope.guarding") / "policies" / f"{source}.yaml").read_text("utf-8"), str(source))
    try:
        text = Path(source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise AffectscopeError(
            f"cannot read the policy {source}: {why}; give a file, or one of {', '.join(SHIPPED)}"
        ) from error
    return parse(text, str(source))


def parse(text: str, name: str = "policy") -> Policy:
    """A policy from YAML.

    Raises:
        AffectscopeError: malformed; the message names line and column.
    """
    try:
        node = yaml.compose(text, yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "the file"
        raise AffectscopeError(
            f"{name}, {where}: {getattr(error, 'problem', None) or 'no YAML'}; correct it"
        ) from error
    except (ValueError, AttributeError, RecursionError) as error:  # an odd date, number or depth
        raise AffectscopeError(f"{name}: it holds a value that cannot be read ({error}); correct it") from error
    if not isinstance(values, dict):
        raise AffectscopeError(f"{name}, line 1, column 1: a policy is a mapping that begins with `format: {FORMAT}`")
    try:
        return Policy.model_validate(values)
    except ValidationError as error:
        field, told = first_problem(error)
        line, column = _place(node, field)
        raise AffectscopeError(f"{name}, line {line}, column {column}: {dotted(field)}: {told}") from error


def _place(node: Any, path: tuple[Any, ...]) -> tuple[int, int]:
    """Line and column of the deepest part of ``path`` that the file holds, counted from 1."""
    for part in path:
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if found is None:
                break
            node = found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
        else:
            break
    return node.start_mark.line + 1, node.start_mark.column + 1


def schema() -> dict[str, Any]:
    """The JSON Schema of a policy file, with every registered action's options, for editors."""
    made = Policy.model_json_schema()
    rungs: list[dict[str, Any]] = [{"enum": sorted(REGISTRY)}]
    for name, action in sorted(REGISTRY.items()):
        options = action.Options.model_json_schema()
        rungs.append(
            {
                "type": "object",
                "description": (action.__doc__ or "").strip(),
                "properties": {
                    "action": {"const": name},
                    "verdict": {"enum": list(VERDICTS)},
                    "patience": {"type": "integer", "minimum": 1},
                    **options.get("properties", {}),
                },
                "required": ["action", *options.get("required", [])],
                "additionalProperties": False,
            }
        )
    made["$defs"]["Rung"] = {"anyOf": rungs}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}
