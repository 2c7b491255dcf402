"""What in a policy cannot work as written, though it is well formed: rules that cannot fire, overlap or starve."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

from affectscope.guarding.policy import Policy, RulePart
from affectscope.monitoring.calibration import Calibration, spec_of
from affectscope.monitoring.detectors import FLOOR, statistics


@dataclass(frozen=True)
class Finding:
    """``level`` is ``error`` (the rule does nothing) or ``warning``."""

    level: str
    rule: str
    text: str


def lint(policy: Policy, calibration: Calibration | None = None) -> list[Finding]:
    """Everything that a reader of the policy should know before it runs.

    Args:
        calibration: whose thresholds it would use; without one only the policy itself is looked at.
    """
    found: list[Finding] = []
    for name, part in policy.rules.items():
        found += [Finding(level, name, text) for level, text in _rule(part)]
    found += _pairs(policy)
    costly = sum(rung.kind.costs for part in policy.rules.values() for rung in part.ladder)
    if policy.limits.budget < max(sum(r.kind.costs for r in part.ladder) for part in policy.rules.values()):
        found.append(
            Finding(
                "warning",
                "",
                f"budget {policy.limits.budget} ends a ladder before its last rung: the session stops instead",
            )
        )
    if not costly and all(part.ladder[-1].action == "log" for part in policy.rules.values()):
        found.append(Finding("warning", "", "no rule does more than record"))
    for part in policy.rules.values():
        for rung in part.ladder:
            if rung.action == "steer" and abs(rung.options.s) > policy.limits.s_max:
                found.append(
                    Finding("warning", "", f"a dose of {rung.options.s:g} is cut to s_max {policy.limits.s_max:g}")
                )
    if calibration is not None:
        found += _calibrated(policy, calibration)
    return found


def _rule(part: RulePart) -> list[tuple[str, str]]:
    """Of one rule alone."""
    found = []
    if not part.phases and "assistant" in part.roles:
        found.append(("error", "it sees no token: no phase of the assistant is named"))
    if part.own_tokens_only and set(part.roles).isdisjoint({"assistant", "text"}):
        found.append(
            ("error", "it cannot fire: it counts the model's own tokens only, of roles that the model never writes")
        )
    actions = [rung.action for rung in part.ladder]
    if "stop" in actions[:-1]:
        found.append(
            ("error", f"rungs after `stop` are never reached: {', '.join(actions[actions.index('stop') + 1 :])}")
        )
    for rung, following in zip(part.ladder, part.ladder[1:], strict=False):
        if rung.kind.severity > following.kind.severity:
            found.append(
                ("warning", f"`{following.action}` is milder than `{rung.action}` before it: a ladder should rise")
            )
        if rung.patience < part.window:
            found.append(
                ("warning", f"`{rung.action}` cannot help: after {rung.patience} tokens the next rung is taken, and the held-out "
                 f"reading is judged after {part.window}")
            )  # fmt: skip
    return found


def _pairs(policy: Policy) -> list[Finding]:
    """Rules that see the same, and those that one before them leaves nothing for."""
    found = []
    for (one, first), (other, second) in combinations(policy.rules.items(), 2):
        same = (first.concepts, first.detector, first.options, first.own_tokens_only)
        overlap = set(first.roles) & set(second.roles)
        if same == (second.concepts, second.detector, second.options, second.own_tokens_only) and overlap:
            found.append(
                Finding(
                    "warning",
                    other,
                    f"it overlaps with {one!r}: both see the same concepts in the same way, and share alpha for it",
                )
            )
            if first.dwell <= second.dwell and first.ladder[0].action == "stop":
                found.append(Finding("error", other, f"it starves: {one!r} stops the session before it can act"))
    return found


def _calibrated(policy: Policy, calibration: Calibration) -> list[Finding]:
    """Against thresholds: what the statistic can never reach."""
    found = []
    mine = {spec_of(rule).name: spec_of(rule) for rule in policy.monitor_rules()}
    theirs = {spec.name: spec for spec in calibration.rules}
    for name, spec in mine.items():
        if theirs.get(name) != spec:
            found.append(Finding("error", name, "it is not the rule that was calibrated: calibrate with this policy"))
    for threshold in calibration.thresholds:
        part = policy.rules.get(threshold.rule)
        if part is None:
            continue
        rule = part.rule(threshold.rule)
        top = -FLOOR * float(abs(rule.row(tuple(part.concepts))).sum())
        most = statistics(rule.detector, [top] * calibration.horizon)
        if len(most) and most.max() <= threshold.value:
            text = f"it cannot fire: its threshold {threshold.value:.1f} lies above all that it can reach"
            found.append(Finding("error", threshold.rule, text))
        if part.dwell > calibration.horizon:
            text = f"it cannot fire within the {calibration.horizon} tokens of the promise: dwell is {part.dwell}"
            found.append(Finding("error", threshold.rule, text))
    if calibration.alpha > policy.alpha_cap:
        text = f"calibrated at alpha {calibration.alpha:g}, above the policy's alpha_cap {policy.alpha_cap:g}"
        found.append(Finding("error", "", text))
    return found
