"""The commands around guarding: policy, keys, verify, counterfactual."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affectscope.errors import AffectscopeError
from affectscope.options import (
    DEFAULT_VECTORS,
    STORE,
    CorpusOpt,
    DeviceOpt,
    DtypeOpt,
    JsonOpt,
    OfVectorsOpt,
    ReadingsOpt,
    StoreOpt,
    VectorsOpt,
)
from affectscope.shared import load_for, show
from affectscope.terminal import Progress

if TYPE_CHECKING:
    from affectscope.guarding.lint import Finding
    from affectscope.guarding.policy import Policy
    from affectscope.guarding.replay import Replayed

policy = typer.Typer(name="policy", help="Check, show and replay guard policies.", no_args_is_help=True)
keys = typer.Typer(name="keys", help="Keys that sign evidence.", no_args_is_help=True)
PolicyArg = Annotated[str, typer.Argument(metavar="POLICY", help="observe, cautious, strict, or a YAML file.")]
LimitsOpt = Annotated[
    Path | None, typer.Option("--calibration", "-c", envvar="AFFECTSCOPE_CALIBRATION", help="Made with this policy.")
]


@policy.command()
def check(source: PolicyArg, calibration: LimitsOpt = None, as_json: JsonOpt = False) -> None:
    """Say what in a policy is wrong, or cannot work as written. Exit code 2 if a rule does nothing."""
    from affectscope.guarding.lint import lint
    from affectscope.guarding.policy import load_policy
    from affectscope.monitoring.calibration import load_calibration

    made = load_policy(source)
    found = lint(made, load_calibration(calibration) if calibration else None)
    rows = [{"level": f.level, "rule": f.rule, "text": f.text} for f in found]
    show({"policy": made.name, "hash": made.hash, "findings": rows}, as_json, _checked(made, found))
    if any(f.level == "error" for f in found):
        raise typer.Exit(2)


@policy.command("show")
def shown(source: PolicyArg) -> None:
    """Print a policy as it stands: a shipped one is where your own may begin."""
    from importlib.resources import files

    from affectscope.guarding.policy import SHIPPED, load_policy

    load_policy(source)
    shipped = files("affectscope.guarding") / "policies" / f"{source}.yaml"
    print((shipped if source in SHIPPED else Path(source)).read_text(encoding="utf-8"), end="")


@policy.command()
def schema() -> None:
    """Print the JSON Schema of policy files, for completion in an editor."""
    import json

    from affectscope.guarding.policy import schema as made

    print(json.dumps(made(), indent=1))


@policy.command("replay")
def replayed(
    source: PolicyArg,
    traces: Annotated[str, typer.Option("--traces", "-t", help="Store whose traces are decided over.")] = STORE,
    calibration: Annotated[
        Path, typer.Option("--calibration", "-c", envvar="AFFECTSCOPE_CALIBRATION", help="Made with this policy.")
    ] = Path("calibration.json"),
    readings: ReadingsOpt = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many, the last saved first.")] = 1000,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write a page as well.")] = None,
    as_json: JsonOpt = False,
) -> None:
    """What would have happened under a policy, over kept traces. Nothing is run again."""
    from affectscope.guarding.guard import guard_of
    from affectscope.guarding.policy import load_policy
    from affectscope.guarding.replay import replay
    from affectscope.monitoring.calibration import load_calibration
    from affectscope.monitoring.store import Store

    made, limits = load_policy(source), load_calibration(calibration)
    guard = guard_of(made, limits)
    with Store.open(traces, readings=readings, create=False) as store:
        rows = []
        for row in store.list(limit=limit):
            trace = store.load(row.id)
            if trace.settings.get("vectors") != limits.vectors:
                raise AffectscopeError(
                    f"trace {row.id} was read with other vectors than the calibration's: give its own"
                )
            rows.append(replay(trace, guard))
    if out is not None:
        from affectscope.files import replacing
        from affectscope.report.replay_page import render_replay

        with replacing(out) as temporary:
            temporary.write_text(render_replay(made, rows), encoding="utf-8")
    told = [r.plain() for r in rows]
    show({"policy": made.name, "hash": made.hash, "traces": told}, as_json, _replayed(made, rows, out))


@policy.command("measure")
def measured(
    source: PolicyArg,
    vectors: VectorsOpt = Path(DEFAULT_VECTORS),
    calibration: Annotated[
        Path, typer.Option("--calibration", "-c", envvar="AFFECTSCOPE_CALIBRATION", help="Made with this policy.")
    ] = Path("calibration.json"),
    rule: Annotated[str, typer.Option(help="Rule of the policy whose concepts are read.")] = "pressure",
    s: Annotated[float, typer.Option("--dose", help="Dose of the steered arms, in mean residual norms.")] = 0.05,
    only: Annotated[
        list[str] | None,
        typer.Option("--arm", help="Only these arms beside none (repeatable); guard is the policy itself."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write.")] = Path("arms.json"),
    corpus: CorpusOpt = None,
    model: OfVectorsOpt = "",
    slots: Annotated[int, typer.Option(min=1, help="Conversations that run at once.")] = 32,
    dtype: DtypeOpt = "auto",
    device: DeviceOpt = "auto",
    as_json: JsonOpt = False,
) -> None:
    """Do the actions help? Each on our stress pairs, beside text, random directions, unrelated concepts and the wrong sign."""
    from affectscope.concepts.episodes import stress
    from affectscope.concepts.stories import load_stories
    from affectscope.engines.base import Sampling
    from affectscope.files import json_text, replacing
    from affectscope.guarding.arms import Bench, arms, compare
    from affectscope.guarding.guard import guard_of
    from affectscope.guarding.outcomes import third_reader
    from affectscope.guarding.policy import load_policy
    from affectscope.monitoring.calibration import load_calibration
    from affectscope.report.arms_page import render_arms
    from affectscope.validation.directions import unrelated_doses
    from affectscope.vectors.artefact import load_vectors

    made, limits, found = load_policy(source), load_calibration(calibration), load_vectors(vectors)
    if rule not in made.rules:
        raise AffectscopeError(f"the policy has no rule {rule!r}: use one of {', '.join(made.rules)}")
    guard, watching = guard_of(made, limits), limits.monitor(found)
    loaded = load_for(found, model, dtype, device, "", "")
    found.require_model(loaded.identity, loaded.anatomy.d_model, loaded.anatomy.depth)
    how = Sampling(**{**limits.sampling, "stop": tuple(limits.sampling["stop"])})
    with Progress() as progress:
        third = third_reader(loaded, found, load_stories(corpus), progress)
        known = arms(found, watching.layer, s, unrelated_doses(loaded, watching.layer, progress))
        bench = Bench(loaded, found, watching, third, made.rules[rule].rule(rule), how, slots)
        result = compare(bench, guard, stress(), known, only or (), progress)
    result = {"policy": made.name, "hash": made.hash, "dose": s} | result
    with replacing(out) as temporary:
        temporary.write_text(json_text(result, indent=1), encoding="utf-8")
    page = out.with_suffix(".html")
    with replacing(page) as temporary:
        temporary.write_text(render_arms(result), encoding="utf-8")
    show(result, as_json, _measured(result) + f"\n{out} {page}")


@keys.command("new")
def new(
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder; the default one when not given.")] = None,
) -> None:
    """Make a signing key and its public half. Keys are never overwritten."""
    from affectscope.guarding.keys import PUBLIC, keys_folder, new_keys

    folder = out or keys_folder()
    made = new_keys(folder)
    print(f"{folder}: give {folder / PUBLIC} to whoever verifies, and keep the rest from the guarded agent")
    print(f"public key {made.public}")


@keys.command("show")
def public(
    folder: Annotated[Path | None, typer.Option("--keys", "-k", help="Folder; the default one when not given.")] = None,
) -> None:
    """Print the public key of a folder of keys."""
    from affectscope.guarding.keys import PUBLIC, keys_folder, load_public

    print(load_public((folder or keys_folder()) / PUBLIC))


def verify(
    evidence: Annotated[Path, typer.Argument(help="A file of evidence, or a server's log of control calls.")],
    pubkey: Annotated[
        Path | None, typer.Option(help="Public key that must have signed; the file's own when not given.")
    ] = None,
    checkpoints: Annotated[Path | None, typer.Option(help="Checkpoints from the second place.")] = None,
    as_json: JsonOpt = False,
) -> None:
    """Check a file of evidence: the chain, the signatures, and every decision again. Exit code 2 names the first line that fails."""
    from affectscope.guarding.keys import load_public
    from affectscope.guarding.verify import verify as run
    from affectscope.server.control_log import is_control_log, verify_control_log

    if is_control_log(evidence):
        held, failed = verify_control_log(evidence)
        said = f"{evidence}: {held} control calls, " + (
            "every line holds" if failed is None else f"FAILS at line {failed}"
        )
        show({"lines": held, "failed": failed, "ok": failed is None}, as_json, said)
        if failed is not None:
            raise typer.Exit(2)
        return
    found = run(evidence, load_public(pubkey) if pubkey else "", checkpoints)
    lines = [
        f"{evidence}: {found.lines} lines, {found.decisions} decisions replayed, {found.acts} effects, {found.checkpoints} checkpoints"
    ]
    lines.append("every line holds" if found.ok else f"FAILS at line {found.failed}: {found.cause}")
    lines += [f"  note: {note}" for note in found.notes]
    values = {name: getattr(found, name) for name in found.__dataclass_fields__}
    show(values | {"ok": found.ok, "notes": list(found.notes)}, as_json, "\n".join(lines))
    if not found.ok:
        raise typer.Exit(2)


def counterfactual(
    trace_id: Annotated[str, typer.Argument(metavar="TRACE", help="Id of a trace, or how it begins.")],
    store: StoreOpt = STORE,
    readings: ReadingsOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """The paired effect of a guarded session's first action: forks with and without it, seed by seed."""
    from affectscope.guarding.forks import effect
    from affectscope.monitoring.store import Store

    with Store.open(store, readings=readings, create=False) as opened:
        trace = opened.load(opened.find(trace_id))
    rows = [{**event.detail, "position": event.position} for event in trace.events if event.kind == "counterfactual"]
    if not rows:
        raise AffectscopeError(
            f"trace {trace.id} holds no forks: set `counterfactuals` in the policy, and an action must be taken"
        )
    for row in rows:
        row["effect"] = effect(row)
        row["effect_against_control"] = effect(row, "control")
    show(rows, as_json, "\n".join(_forked(row) for row in rows))


def _checked(made: Policy, found: list[Finding]) -> str:
    lines = [f"{made.name}: {len(made.rules)} rules, hash {made.hash[:12]}"]
    lines += [f"{f.level:8} {f.rule + ': ' if f.rule else ''}{f.text}" for f in found]
    return "\n".join([*lines, "nothing to say against it"] if not found else lines)


def _replayed(made: Policy, rows: list[Replayed], out: Path | None) -> str:
    acted = [r for r in rows if r.acts]
    lines = [f"{made.name} over {len(rows)} traces: it would have acted in {len(acted)}", ""]
    if acted:
        lines.append(f"{'trace':14} {'tokens':>6} {'at':>5}  {'first action':24} all decided as if nothing was done")
    for r in acted[:40]:
        acts = ", ".join(f"{name} {count}" for name, count in r.acts.items())
        lines.append(
            f"{r.trace[:14]:14} {r.tokens:6} {r.position if r.position is not None else '':>5}  {r.first[:24]:24} {acts}"
        )
    if len(acted) > 40:
        lines.append(f"... and {len(acted) - 40} more (--json or --out shows all)")
    return "\n".join([*lines, "", str(out)] if out else lines)


def _measured(result: dict[str, Any]) -> str:
    """A line an arm: change against none under pressure, with intervals, and what the arms read with no action."""
    names = {"third": "third reader, s.d.", "nats": "nats a token", "tokens": "tokens", "gave_up": "says it does not"}
    none = next(row for row in result["rows"] if row["arm"] == "none")
    lines = [
        f"{result['pairs']} pairs; {result['policy']} acted in {result['acted']}; dose {result['dose']:g}; change against none, under pressure",
        "",
        f"{'':20} " + " ".join(f"{name:24}" for name in names.values()),
        f"{'none (mean)':20} " + " ".join(f"{none['mean'][key]:<24.2f}" for key in names),
    ]
    for row in result["rows"]:
        if row["change"]:
            cells = ["{:+.2f} [{:+.2f}, {:+.2f}]".format(*row["change"][key]) for key in names]
            lines.append(f"{row['arm']:20} " + " ".join(f"{cell:24}" for cell in cells))
    return "\n".join(lines)


def _forked(row: dict[str, Any]) -> str:
    pairs = len(row["seeds"])
    lines = [f"{row['act']} by {row['rule']} at token {row['position']}: {pairs} pairs of forks"]
    if row["effect"] is None:
        return "\n".join([*lines, "no pair wrote a token: nothing can be said"])
    value, low, high = row["effect"]
    lines.append(f"held-out reading, acted less plain: {value:+.2f} s.d. [{low:+.2f}, {high:+.2f}]")
    if row["effect_against_control"]:
        said = "{:+.2f} s.d. [{:+.2f}, {:+.2f}]".format(*row["effect_against_control"])
        lines.append(f"acted less words that say nothing:   {said}")
    means = [sum(row[f"{half}_tokens"]) / pairs for half in ("plain", "acted")]
    lines.append(f"tokens a fork: {means[0]:.1f} plain, {means[1]:.1f} acted")
    lines.append("shown to lower it" if high < 0 else "shown to raise it" if low > 0 else "not shown to change it")
    return "\n".join(lines)
