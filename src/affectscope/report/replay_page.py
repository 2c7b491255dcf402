"""A page of what a policy would have done over kept traces."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from markupsafe import Markup

from affectscope.guarding.policy import Policy
from affectscope.guarding.replay import Replayed
from affectscope.report.page import part


def render_replay(policy: Policy, rows: Sequence[Replayed]) -> str:
    """The page, self-contained; traces in which something was decided stand first."""
    from jinja2 import Environment

    order = sorted(rows, key=lambda row: (not row.acts, row.trace))
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(str(part("replay.html")))
    return page.render(
        policy=policy,
        rows=order,
        acted=sum(bool(row.acts) for row in rows),
        totals=dict(sum((Counter(row.acts) for row in rows), Counter())),
        plain=json.dumps(policy.plain(), indent=1, ensure_ascii=False),
        style=part("report.css"),
        script=part("heat.js") + Markup('themeButton(document.getElementById("theme"));'),
    )
