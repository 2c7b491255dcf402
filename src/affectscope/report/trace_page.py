"""Pages of one text: a scan, or the trace of an episode, drawn by the web component ``<affect-trace>``."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from markupsafe import Markup

from affectscope.errors import AffectscopeError
from affectscope.monitoring.scan import Scan
from affectscope.monitoring.trace import Trace, restore
from affectscope.report.page import embedded, part


def scan_data(found: Scan, id: str = "") -> dict[str, Any]:
    """A scan as the component takes it; ``z`` and ``cosine`` are ``[concept][token]``."""
    return {
        "id": id,
        "layer": found.layer,
        "unit": "z",
        "tokens": list(found.tokens),
        "roles": list(found.roles),
        "phases": list(found.phases),
        "concepts": list(found.concepts),
        "z": np.round(found.z, 2).T.tolist(),
        "cosine": np.round(found.cosine, 4).T.tolist(),
    }


def trace_data(trace: Trace, probe: str = "readers", watch: Sequence[str] = ()) -> dict[str, Any]:
    """A trace as the component takes it: the z of one probe, ``[concept][token]``, None where a reading is missing.

    An event stands at the index of its token; one whose token was rewound away stands at the last token before it, and
    tells its own position. Tokens are None, shown as “·”, where the text was not kept.

    Args:
        probe: one of the trace's probes.
        watch: concepts that the chart draws first.

    Raises:
        AffectscopeError: a probe or concept that the trace does not hold.
    """
    if probe not in trace.probes:
        raise AffectscopeError(f"the trace holds no probe {probe!r}: use one of {', '.join(trace.probes)}")
    if unknown := [name for name in watch if name not in trace.concepts]:
        raise AffectscopeError(f"the trace holds no reading of {', '.join(unknown)}: watch concepts that it read")
    z = np.round(restore(trace.z[trace.probes.index(probe)]).astype(float), 3)
    return {
        "id": trace.id,
        "layer": trace.settings.get("layer"),
        "unit": "z",
        "tokens": [None] * len(trace) if trace.texts is None else list(trace.texts),
        "roles": list(trace.roles),
        "phases": list(trace.phases),
        "generated": np.asarray(trace.generated, bool).tolist(),
        "concepts": list(trace.concepts),
        "watch": list(watch),
        "z": [[value if math.isfinite(value) else None for value in row] for row in z.T.tolist()],
        "events": _events(trace),
    }


def _events(trace: Trace) -> list[dict[str, Any]]:
    found = []
    for event in trace.events:
        index = max(0, int(np.searchsorted(trace.positions, event.position, side="right")) - 1)
        detail = dict(event.detail)
        if not len(trace) or trace.positions[index] != event.position:
            detail["position"] = event.position
        found.append({"position": index, "kind": event.kind, "detail": detail})
    return found


def render_scan(found: Scan, title: str) -> str:
    """A page with one scan, self-contained."""
    lead = (
        "Each token is coloured by how far the representation of the chosen concept "
        f"at layer {found.layer} lies above (orange) or below (blue) its baseline on ordinary text."
    )
    return _page("scan", f"Readings of {title}", lead, scan_data(found))


def render_trace(trace: Trace, title: str, probe: str = "readers", watch: Sequence[str] = ()) -> str:
    """A page with one trace, self-contained. Raises as :func:`trace_data` does."""
    lead = (
        "Each token is coloured by how far the representation of the chosen concept lies above (orange) or below (blue) "
        f"its baseline. Probe: {probe}."
    )
    if trace.texts is None:
        lead += " The text was not kept: each “·” is a token."
    facts = {
        "started": datetime.fromtimestamp(trace.started, UTC).isoformat(timespec="seconds"),
        "took": f"{trace.ended - trace.started:.1f} s",
        "finished": trace.finished,
        **trace.tags,
    }
    settings = {k: v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for k, v in trace.settings.items()}
    return _page("trace", title, lead, trace_data(trace, probe, watch), facts, settings)


def _page(
    kind: str,
    title: str,
    lead: str,
    data: dict[str, Any],
    facts: dict[str, str] | None = None,
    settings: dict[str, str] | None = None,
) -> str:
    from jinja2 import Environment

    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(str(part("trace.html")))
    return page.render(
        kind=kind,
        title=title,
        lead=lead,
        facts=facts or {},
        settings=settings or {},
        data=embedded(data),
        style=part("report.css"),
        script=part("heat.js", "affect-trace.js") + Markup('themeButton(document.getElementById("theme"));'),
    )
