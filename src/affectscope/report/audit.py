"""The audit report: `report.html` (self-contained, no network) and `report.json` (schema beside this file).

The page is drawn from the JSON and from nothing else, so what a reader sees can be recomputed from the file.
"""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from affectscope.concepts.emotions import EMOTIONS, cluster_of
from affectscope.concepts.items import situations
from affectscope.concepts.neutral import Message
from affectscope.files import json_text, replacing
from affectscope.monitoring.scan import scan
from affectscope.report.figures import emotion_map, valence_arousal_plane
from affectscope.report.page import embedded, part
from affectscope.report.trace_page import scan_data
from affectscope.validation.base import Measure, Result, Subject, experiments
from affectscope.vectors.geometry import cosines, neighbours

FORMAT = "affectscope/report@1"


PASSAGES = 5
"""Passages of a sweep that the report shows for each concept; the sweep's own page has them all."""


def write_report(subject: Subject, results: list[Result], out: Path, sweep: dict[str, Any] | None = None) -> Path:
    """Write ``report.json`` and ``report.html`` into ``out``; returns the page's path.

    Args:
        sweep: what a corpus sweep found, to be shown with the rest.

    Raises:
        AffectscopeError: the disk is full or not writable.
    """
    content = report_content(subject, results) | {"sweep": _passages(sweep) if sweep else None}
    with replacing(out / "report.json") as temporary:
        temporary.write_text(json_text(content, indent=1), encoding="utf-8")
    with replacing(out / "report.html") as temporary:
        temporary.write_text(render(content), encoding="utf-8")
    return out / "report.html"


def report_content(subject: Subject, results: list[Result]) -> dict[str, Any]:
    """Everything that the report says, as plain values."""
    by_name = {r.name: r for r in results}
    known = {e.name: e for e in experiments()}
    vectors = subject.vectors
    return {
        "format": FORMAT,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "affectscope": version("affectscope"),
        "machine": {
            "processor": _processor(),
            "python": platform.python_version(),
            "device": str(subject.model.device),
        },
        "model": vectors.model,
        "layer": {"read": vectors.read_layer, "choice": vectors.recipe["layer_choice"], "layers": list(vectors.layers)},
        "corpus": vectors.corpus,
        "recipe": vectors.recipe,
        "effort": subject.effort,
        "headline": headline(by_name),
        "front": [front_row(r, known[r.name].title or r.name) for r in results],
        "results": [
            r.as_dict() | {"title": known[r.name].title or r.name, "figures": known[r.name].plot(r) if r.n else []}
            for r in results
        ],
        "map": emotion_map(vectors, by_name),
        "plane": valence_arousal_plane(by_name),
        "concepts": _concepts(subject, by_name),
        "situations": _situations(subject),
    }


def render(content: dict[str, Any]) -> str:
    """The page for a report's content."""
    from jinja2 import Environment
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["measure"] = lambda m: Measure(
        **(m | {"value": float("nan") if m["value"] is None else m["value"]})
    ).text()
    return environment.from_string(str(part("report.html"))).render(
        report=content,
        data=embedded(content),
        style=part("report.css"),
        script=part("heat.js", "affect-trace.js", "report.js"),
        plotly=Markup(get_plotlyjs()),
    )


def headline(results: dict[str, Result]) -> list[dict[str, Any]]:
    """The tiles of the first screen: a number, its interval, what it is held against, and the verdict."""
    wanted = (
        ("recognition", "readers: mean rank", "Mean rank of the true emotion on unseen topics", "chance: mean rank", "chance"),
        ("text_baselines", "gain of the readers over the best text baseline", "Gain of the readers over the best reader of the words", "", "0 would be no gain"),
        ("other_style", "gain of the readers over the best text baseline", "The same gain on stories of another style", "", "0 would be no gain"),
        ("situations", "vectors: argmax right", "Situations whose emotion is read before the reply", "random directions: argmax right", "random directions"),
        ("expressed", "another person: own word over unrelated", "Steering: what the own word gains over unrelated pushes", "", "0 would be no gain"),
        ("geometry", "adjusted Rand index", "Agreement of clusters with the paper's", "adjusted Rand index, permuted (95th percentile)", "chance, 95th percentile"),
        ("human_ratings", "PC1 and valence (RM77): |r|", "First component and human valence, |r|", "", "paper: 0.81"),
        ("logit_lens", "own vector: percentile of the emotion's word", "Vocabulary percentile of the emotion's own word", "random direction: percentile of the emotion's word", "random directions"),
    )  # fmt: skip
    tiles = []
    for name, measure, label, control, note in wanted:
        result = results.get(name)
        found = {m.name: m for m in result.measures} if result else {}
        if result is None or measure not in found:
            continue
        against = f"{note} {found[control].text()}" if control in found else note
        tiles.append(
            {
                "name": name,
                "label": label,
                "value": found[measure].text(),
                "against": against,
                "verdict": result.verdict,
                "rule": result.rule,
            }
        )
    return tiles


def front_row(result: Result, title: str) -> dict[str, Any]:
    """One line of the front table: experiment, the paper's figure, this model's, its control's, the verdict."""
    found = {m.name: m for m in result.measures}
    effect, control = found.get(result.effect), found.get(result.control)
    return {
        "name": result.name,
        "title": title,
        "paper": result.paper,
        "measure": effect.name if effect else result.finding,
        "model": effect.text() if effect else "",
        "control_measure": control.name if control else "",
        "control": control.text() if control else "",
        "verdict": result.verdict,
    }


def _passages(sweep: dict[str, Any]) -> dict[str, Any]:
    """The passages of a swept text that represent each concept most, as text."""
    texts = {name: "".join(passage["tokens"]).strip() for name, passage in sweep["texts"].items()}
    top = {
        concept: [{"text": texts[str(p["text"])], "score": p["score"]} for p in found[:PASSAGES]]
        for concept, found in sweep["top"].items()
    }
    return {key: sweep[key] for key in ("files", "passages", "tokens")} | {"top": top}


def _concepts(subject: Subject, results: dict[str, Result]) -> dict[str, Any]:
    """For each concept what a reader may ask of it: near and far ones, lens tokens, held-out rank, cluster."""
    vectors = subject.vectors
    matrix = cosines(vectors.vectors[vectors.place()])
    lens = results["logit_lens"].data.get("table", {}) if "logit_lens" in results else {}
    held = results["recognition"].data.get("by_emotion", {}) if "recognition" in results else {}
    found = {}
    for i, name in enumerate(vectors.concepts):
        near, far = neighbours(matrix, i, 5, 3)
        found[name] = {
            "cluster": cluster_of(name) if name in EMOTIONS else "",
            "near": [[vectors.concepts[j], round(cosine, 2)] for j, cosine in near],
            "far": [[vectors.concepts[j], round(cosine, 2)] for j, cosine in far],
            "up": list(lens.get(name, {}).get("up", [])),
            "down": list(lens.get(name, {}).get("down", [])),
            "rank": round(held[name], 2) if name in held else None,
        }
    return found


def _situations(subject: Subject) -> list[dict[str, Any]]:
    """Token readings of our situations: the twelve emotions' z at every token."""
    first = {s.emotion: s.text for s in reversed(situations())}
    chosen = [e for e in dict.fromkeys(s.emotion for s in situations()) if e in subject.vectors.concepts]
    return [
        scan_data(scan(subject.model, subject.vectors, [Message("user", first[e])], concepts=chosen, reply=True))
        | {"emotion": e}
        for e in chosen
    ]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
