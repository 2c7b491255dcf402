"""What a person sees on a terminal: progress, and a text coloured by its readings."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from affectscope.errors import AffectscopeError

if TYPE_CHECKING:
    from affectscope.monitoring.scan import Scan
    from affectscope.vectors.artefact import ConceptVectors


class Progress:
    """A bar on a terminal; on anything else a line a stage and one every ten seconds."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        self._console = Console(stderr=True)
        self._bars = Bars(
            TextColumn("{task.description:24}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._tasks: dict[str, Any] = {}
        self._last = 0.0

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` steps of ``stage`` are over."""
        if self._console.is_terminal:
            if stage not in self._tasks:
                self._tasks[stage] = self._bars.add_task(stage, total=total)
            self._bars.update(self._tasks[stage], completed=done, total=total)
        elif done == total or time.monotonic() - self._last > 10:
            self._last = time.monotonic()
            print(f"{stage}: {done}/{total}", file=sys.stderr, flush=True)

    def say(self, line: str) -> None:
        """A line above the bars."""
        self._console.print(line, highlight=False, markup=False)


def say(line: str) -> None:
    """A line for the person, on standard error, so that results stay clean on standard output."""
    print(line, file=sys.stderr, flush=True)


def show_scan(found: Scan) -> None:
    """Each concept: its mean and highest reading, then the text coloured by its z (orange above, blue below)."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    kept = [i for i, role in enumerate(found.roles) if role != "template"]
    if not kept:
        raise AffectscopeError("the conversation holds no text: every token belongs to the template")
    for k, concept in enumerate(found.concepts):
        z = found.z[kept, k]
        peak = kept[int(z.argmax())]
        console.print(
            f"\n{concept}  mean z {z.mean():+.2f}, highest {z.max():+.2f} at {found.tokens[peak].strip()!r}",
            style="bold",
            markup=False,
        )
        line = Text()
        for i in kept:
            line.append(_printable(found.tokens[i]), style=_colour(float(found.z[i, k])))
        console.print(line)
    console.print(
        f"\nlayer {found.layer}; z is against ordinary text in the same role, colours are full at |z| = 4", style="dim"
    )


def coloured(token: str, z: float) -> Any:
    """A piece of text on the ground that its z gives, as rich text."""
    from rich.text import Text

    return Text(_printable(token), style=_colour(z))


def _printable(token: str) -> str:
    """Without the control characters by which a text could steer the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\u00b7" for c in token)


def _colour(z: float) -> str:
    """Black text on an orange (above) or blue (below) ground; none within one s.d. of the baseline."""
    if not abs(z) >= 1:  # NaN as well: what was not read has no colour
        return ""
    share = min((abs(z) - 1) / 3, 1)
    full = (240, 130, 60) if z > 0 else (70, 160, 220)
    red, green, blue = (int(235 + (c - 235) * share) for c in full)
    return f"black on rgb({red},{green},{blue})"


def vectors_text(found: ConceptVectors) -> str:
    """What a vectors file holds and where it came from, a few lines."""
    model, corpus, norm = found.model, found.corpus, float(found.mean_norm[found.place()])
    lines = [
        f"model     {model['id']} ({model['architecture']}, {model['depth']} blocks of width {model['d_model']}, {model['dtype']})",
        f"layers    {', '.join(map(str, found.layers))}; read at {found.read_layer} ({found.recipe['layer_choice']['rule']})",
        f"corpus    {corpus['author']}: {corpus['stories']} stories, {len(corpus['topics'])} topics, crossed: {corpus['crossed']}",
        f"dose unit {norm:.3f} (mean residual norm at the read layer)",
        f"weights   {model['weights'][:16]}  tokenizer {model['tokenizer'][:16]}  corpus {corpus['hash'][:16]}",
        f"concepts  {len(found.concepts)}: {', '.join(found.concepts)}",
    ]
    return "\n".join(lines)
