"""The commands that watch a model while it writes: calibrate, detect, monitor, chat."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from affectscope.errors import AffectscopeError
from affectscope.options import (
    DEFAULT_VECTORS,
    STORE,
    BlocksOpt,
    DeviceOpt,
    DtypeOpt,
    JsonOpt,
    NormOpt,
    OfVectorsOpt,
    ReadingsOpt,
    StoreOpt,
    VectorsOpt,
)
from affectscope.shared import load_for, show
from affectscope.terminal import Progress, say

if TYPE_CHECKING:
    from affectscope.engines.base import Sampling
    from affectscope.monitoring.calibration import Calibration

TemperatureOpt = Annotated[float, typer.Option(help="0 takes the likeliest token.")]
TopPOpt = Annotated[float, typer.Option("--top-p", help="Keep the likeliest tokens of this share.")]
TopKOpt = Annotated[int, typer.Option("--top-k", help="Keep this many; 0 keeps all.")]
PenaltyOpt = Annotated[float, typer.Option("--repetition-penalty", help="Above 1 discourages repetition.")]
MaxOpt = Annotated[int, typer.Option("--max-tokens", help="Most tokens of a reply.")]
SeedOpt = Annotated[int, typer.Option(help="What all draws begin from.")]
SlotsOpt = Annotated[int, typer.Option(min=1, help="Conversations that run at once.")]
LayerOpt = Annotated[int | None, typer.Option(help="Another layer of the file than its read layer.")]
CalibrationOpt = Annotated[
    Path | None,
    typer.Option("--calibration", "-c", envvar="AFFECTSCOPE_CALIBRATION", help="Made by `affectscope calibrate`."),
]
KeepOpt = Annotated[bool, typer.Option("--keep-content", help="Keep the texts in the traces; off unless given.")]


def calibrate(
    vectors_file: Annotated[Path | None, typer.Argument(metavar="[VECTORS]", help="As --vectors.")] = None,
    vectors: VectorsOpt = Path(DEFAULT_VECTORS),
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write.")] = Path("calibration.json"),
    model: OfVectorsOpt = "",
    benign: Annotated[
        list[Path] | None, typer.Option(help="Your own benign conversations, JSON Lines with messages or prompt.")
    ] = None,
    preset: Annotated[str, typer.Option(help="everyday: 1,320 of ours in twelve domains.")] = "everyday",
    rules: Annotated[
        Path | None, typer.Option(help="Your own rules, JSON: name, weights by concept, detector, options.")
    ] = None,
    policy: Annotated[
        str, typer.Option(help="The rules of a guard policy: cautious, strict, observe, or a YAML file.")
    ] = "",
    alpha: Annotated[float, typer.Option(help="False-alarm rate an episode, of all rules together.")] = 0.01,
    promise: Annotated[
        str, typer.Option(help="average: over calibrations; this: of this one, with 95 % confidence.")
    ] = "average",
    strata: Annotated[
        str, typer.Option(help="Thresholds of their own: none, or by domain, length (of the prompt), role or phase.")
    ] = "none",
    layer: LayerOpt = None,
    temperature: TemperatureOpt = 0.7,
    top_p: TopPOpt = 0.95,
    top_k: TopKOpt = 0,
    repetition_penalty: PenaltyOpt = 1.0,
    max_tokens: MaxOpt = 64,
    seed: SeedOpt = 0,
    slots: SlotsOpt = 16,
    dtype: DtypeOpt = "auto",
    device: DeviceOpt = "auto",
    blocks: BlocksOpt = "",
    final_norm: NormOpt = "",
    as_json: JsonOpt = False,
) -> None:
    """Set alarm thresholds with a promised false-alarm rate, and audit it. Interrupt it and run it again: it goes on."""
    from affectscope.concepts.episodes import benign as ours
    from affectscope.concepts.episodes import read_openings
    from affectscope.engines.transformers import TransformersEngine
    from affectscope.guarding.policy import load_policy
    from affectscope.monitoring.calibrate import calibrate as run
    from affectscope.monitoring.calibration import load_rules
    from affectscope.monitoring.detectors import RULES
    from affectscope.monitoring.monitor import Strata, monitor
    from affectscope.vectors.artefact import load_vectors

    _one_of("--promise", promise, ("average", "this"))
    _one_of("--strata", strata, get_args(Strata))
    _one_of("--preset", preset, ("everyday",))
    how = _sampling(temperature, top_p, top_k, repetition_penalty, max_tokens, seed)
    openings = read_openings(benign) if benign else ours()
    found = load_vectors(vectors_file or vectors)
    if rules and policy:
        raise AffectscopeError("--rules and --policy both name rules: leave one of them out")
    chosen = load_policy(policy).monitor_rules() if policy else load_rules(rules) if rules else RULES
    watching = monitor(found, layer=layer, rules=chosen)
    loaded = load_for(found, model, dtype, device, blocks, final_norm)
    found.require_model(loaded.identity, loaded.anatomy.d_model, loaded.anatomy.depth)
    with Progress() as progress:
        made = run(
            TransformersEngine(loaded, watching.read, slots),
            found,
            watching,
            openings,
            alpha=alpha,
            promise=promise,  # type: ignore[arg-type]
            strata=strata,  # type: ignore[arg-type]
            sampling=how,
            partial=out.with_name(f".{out.name}.partial"),
            progress=progress,
        )
    made.save(out)
    audit = [r.model_dump() for r in made.audit]
    thresholds = [t.model_dump() for t in made.thresholds]
    show({"out": str(out), "audit": audit, "thresholds": thresholds, "drift": made.drift}, as_json, _told(made, out))


def detect(
    vectors_file: Annotated[Path | None, typer.Argument(metavar="[VECTORS]", help="As --vectors.")] = None,
    vectors: VectorsOpt = Path(DEFAULT_VECTORS),
    calibration: CalibrationOpt = Path("calibration.json"),
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write.")] = Path("detection.json"),
    model: OfVectorsOpt = "",
    slots: SlotsOpt = 16,
    dtype: DtypeOpt = "auto",
    device: DeviceOpt = "auto",
    blocks: BlocksOpt = "",
    final_norm: NormOpt = "",
    as_json: JsonOpt = False,
) -> None:
    """Do alarms come where the pressure is? Our matched pairs of conversations, against a monitor of the words alone."""
    from dataclasses import replace

    from affectscope.concepts.episodes import benign, stress
    from affectscope.concepts.stories import load_stories
    from affectscope.engines.base import Sampling
    from affectscope.engines.transformers import TransformersEngine
    from affectscope.files import json_text, replacing
    from affectscope.monitoring.calibrate import deal
    from affectscope.monitoring.calibration import load_calibration
    from affectscope.monitoring.detection import detection, extended, require_whole, watched
    from affectscope.monitoring.monitor import monitor as watching_of
    from affectscope.monitoring.text_monitor import TextMonitor
    from affectscope.vectors.artefact import load_vectors

    found = load_vectors(vectors_file or vectors)
    limits = load_calibration(calibration or Path("calibration.json"))
    require_whole(limits)
    watching = limits.monitor(found)
    loaded = load_for(found, model, dtype, device, blocks, final_norm)
    found.require_model(loaded.identity, loaded.anatomy.d_model, loaded.anatomy.depth)
    how = Sampling(**{**limits.sampling, "stop": tuple(limits.sampling["stop"])})
    probes = ("readers", "readers_heldout", "vectors")
    both = [watching_of(found, limits.concepts, limits.layer, probes, watching.rules, policy) for policy in probes[::2]]
    engine, text = TransformersEngine(loaded, both[0].read, slots), TextMonitor(load_stories())
    with Progress() as progress:
        live = replace(both[0], standard=extended(watching.standard, both[0].standard))
        rivals = (live, both[1], text)
        pairs = watched(engine, *rivals, stress(), how, progress, "stress pairs")
        ordinary = watched(engine, *rivals, deal(benign())["calibrate"][:300], how, progress, "benign episodes")
    figures = detection(pairs, ordinary, limits, watching.rules)
    with replacing(out) as temporary:
        temporary.write_text(json_text(figures, indent=1), encoding="utf-8")
    show(figures, as_json, _detected(figures) + f"\n{out}")


def chat(
    model: OfVectorsOpt = "",
    vectors: VectorsOpt = Path(DEFAULT_VECTORS),
    calibration: CalibrationOpt = None,
    emotion: Annotated[str, typer.Option("--emotion", "-e", help="Concept that colours the text.")] = "desperate",
    system: Annotated[str, typer.Option(help="System message.")] = "",
    store: Annotated[
        str, typer.Option("--store", "-s", help="Keep each reply's trace here; nothing is kept unless given.")
    ] = "",
    readings: ReadingsOpt = None,
    keep_content: KeepOpt = False,
    stratum: Annotated[str, typer.Option(help="The conversation's domain, if the calibration has them.")] = "",
    layer: LayerOpt = None,
    temperature: TemperatureOpt = 0.7,
    top_p: TopPOpt = 0.95,
    top_k: TopKOpt = 0,
    repetition_penalty: PenaltyOpt = 1.0,
    max_tokens: MaxOpt = 256,
    dtype: DtypeOpt = "auto",
    device: DeviceOpt = "auto",
    blocks: BlocksOpt = "",
    final_norm: NormOpt = "",
) -> None:
    """Talk with a model and see each token's state. /help in it tells more."""
    import signal
    import sys
    from dataclasses import replace

    from rich.console import Console

    from affectscope.chat import Chat, run
    from affectscope.monitoring.calibration import load_calibration
    from affectscope.vectors.artefact import load_vectors

    found = load_vectors(vectors)
    limits = load_calibration(calibration) if calibration else None
    found.select([emotion])
    if limits and limits.strata == "domain":
        _one_of("--stratum", stratum, tuple(sorted({t.stratum for t in limits.thresholds})))
    loaded = load_for(found, model, dtype, device, blocks, final_norm)
    found.require_model(loaded.identity, loaded.anatomy.d_model, loaded.anatomy.depth)
    how = _sampling(temperature, top_p, top_k, repetition_penalty, max_tokens, None)
    console = Console(highlight=False)
    if limits and (told := limits.differs(how)):
        console.print(told, style="dim")
    with _store(store, readings) as kept:
        keep = (
            (lambda trace: kept.save(trace if keep_content else replace(trace, texts=None, tokens=None)))
            if kept
            else None
        )
        signal.signal(signal.SIGINT, signal.default_int_handler)  # here Control-C ends a reply, not the command
        session = Chat(loaded, found, how, limits, emotion, keep, system, layer, stratum)
        run(session, console, lambda: console.input("\n[bold]you[/bold] ") if sys.stdin.isatty() else input())


def monitor(
    prompts: Annotated[
        list[Path], typer.Option("--prompts", "-p", help="JSON Lines with messages or prompt, or a line a prompt.")
    ],
    model: OfVectorsOpt = "",
    vectors: VectorsOpt = Path(DEFAULT_VECTORS),
    calibration: CalibrationOpt = None,
    store: StoreOpt = STORE,
    readings: ReadingsOpt = None,
    keep_content: KeepOpt = False,
    layer: LayerOpt = None,
    temperature: TemperatureOpt = 0.7,
    top_p: TopPOpt = 0.95,
    top_k: TopKOpt = 0,
    repetition_penalty: PenaltyOpt = 1.0,
    max_tokens: MaxOpt = 64,
    seed: SeedOpt = 0,
    slots: SlotsOpt = 16,
    dtype: DtypeOpt = "auto",
    device: DeviceOpt = "auto",
    blocks: BlocksOpt = "",
    final_norm: NormOpt = "",
    as_json: JsonOpt = False,
) -> None:
    """Run many conversations through a model, watch them in a table, and keep their traces."""
    from affectscope.batch import drift_text, monitor_all, summary_text
    from affectscope.concepts.episodes import read_openings
    from affectscope.engines.transformers import TransformersEngine
    from affectscope.monitoring.calibration import load_calibration
    from affectscope.monitoring.drift import Drift
    from affectscope.monitoring.monitor import monitor as watching_of
    from affectscope.monitoring.recording import settings_of
    from affectscope.vectors.artefact import load_vectors

    openings = read_openings(prompts)
    how = _sampling(temperature, top_p, top_k, repetition_penalty, max_tokens, seed)
    found = load_vectors(vectors)
    limits = load_calibration(calibration) if calibration else None
    if limits and layer not in (None, limits.layer):
        raise AffectscopeError(f"--layer {layer} is not the calibration's layer {limits.layer}: leave one of them out")
    watching = limits.monitor(found) if limits else watching_of(found, layer=layer)
    loaded = load_for(found, model, dtype, device, blocks, final_norm)
    found.require_model(loaded.identity, loaded.anatomy.d_model, loaded.anatomy.depth)
    settings = settings_of(found, watching.layer, how, limits)
    differs = limits.differs(how) if limits else ""
    if differs:
        say(differs)
    drift = Drift(limits.reference, limits.strata) if limits and not differs else None
    with _store(store, readings) as kept:
        engine = TransformersEngine(loaded, watching.read, slots)
        rows = monitor_all(engine, watching, openings, how, settings, kept, keep_content, drift)
    if drift:
        say(drift_text(drift))
    show(rows, as_json, summary_text(rows, store))


@contextmanager
def _store(place: str, readings: Path | None) -> Iterator[Any]:
    """An open store, or None when no place is given."""
    if not place:
        yield None
        return
    from affectscope.monitoring.store import Store

    store = Store.open(place, readings=readings)
    try:
        yield store
    finally:
        store.close()


def _sampling(temperature: float, top_p: float, top_k: int, penalty: float, most: int, seed: int | None) -> Sampling:
    from affectscope.engines.base import Sampling

    return Sampling(temperature, top_p, top_k, penalty, seed, (), most)


def _one_of(option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise AffectscopeError(f"{option} is {value!r}: use one of {', '.join(known)}")


def _told(made: Calibration, out: Path) -> str:
    """The promise and what the audit set showed, a line a part."""
    sizes = ", ".join(f"{name} {part.episodes}" for name, part in made.sets.items())
    lines = [
        f"{out}: alpha {made.alpha:g} an episode, episodes: {sizes}",
        "",
        f"{'audit':28} {'alarms':>7} {'of':>5}   rate [95 %]",
    ]
    for part in made.audit:
        rate = f"{part.rate:6.2%} [{part.low:.2%}, {part.high:.2%}]"
        lines.append(f"{part.part:28} {part.alarms:7} {part.episodes:5} {rate}")
    drift = max(made.drift.values(), default=1.0)
    lines += ["", f"drift on the audit set: capital at most {drift:.2f} (100 would say: recalibrate)"]
    return "\n".join(lines)


def _detected(figures: dict[str, Any]) -> str:
    def span(values: list[float], percent: bool = False) -> str:
        value, low, high = values
        return f"{value:.0%} [{low:.0%}, {high:.0%}]" if percent else f"{value:.2f} [{low:.2f}, {high:.2f}]"

    lines = [
        f"{figures['pairs']} pairs, pressure against control",
        "",
        f"{'':24} AUROC              found at 5 %       false at 5 %",
    ]
    for row in figures["rows"]:
        at = row["at 0.05"]
        lines.append(
            f"{row['name'][:24]:24} {span(row['auroc'])}  {span(at['pressure'], True):18} {span(at['control'], True)}"
        )
    lines.append("")
    for name, gain in figures["gain"].items():
        lines.append(f"readers over {name}: AUROC {span(gain)}")
    return "\n".join(lines)
