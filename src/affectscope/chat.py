"""A conversation in the terminal: the reply coloured as it comes, what moved most, alarms where they fall.

Plain lines only (no full-screen drawing), so it works over any connection and at 80 columns.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from affectscope.concepts.neutral import Message
from affectscope.errors import AffectscopeError

if TYPE_CHECKING:
    from affectscope.engines.base import Sampling
    from affectscope.engines.local import LocalGeneration
    from affectscope.engines.transformers import TransformersEngine
    from affectscope.models.load import Model
    from affectscope.monitoring.calibration import Calibration
    from affectscope.monitoring.conversation import Conversation
    from affectscope.monitoring.monitor import Monitor, Reading
    from affectscope.monitoring.trace import Trace
    from affectscope.vectors.artefact import ConceptVectors

HELP = """/emotion NAME  colour the text by another concept
/top           what moved most in the last reply
/layer N       read another layer of the vectors
/save FILE     the conversation: a page if it ends with .html, else JSON
/system TEXT   set the system message and start anew
/new           start anew
/quit          leave"""


@dataclass
class Chat:
    """State of one conversation, which is one episode: its detectors and its promise go on from reply to reply.

    ``keep`` is given the trace of each turn; ``stratum`` names the conversation's where a calibration has them by domain.
    """

    model: Model
    vectors: ConceptVectors
    sampling: Sampling
    calibration: Calibration | None
    emotion: str
    keep: Callable[[Trace], None] | None = None
    system: str = ""
    layer: int | None = None
    stratum: str = ""
    messages: list[Message] = field(default_factory=list)
    conversation: Conversation | None = None
    trace: Trace | None = None
    name: str = field(default_factory=lambda: uuid4().hex)
    spent: int = 0

    def __post_init__(self) -> None:
        self.rebuild()

    def anew(self) -> None:
        """Forget what was said."""
        self.messages, self.conversation, self.trace, self.spent = [], None, None, 0
        self.name = uuid4().hex

    @property
    def reply(self) -> list[Reading]:
        """Readings of the last reply's own tokens."""
        if self.conversation is None:
            return []
        turn = self.conversation.turn
        return [r for r in self.conversation.watch.readings if r.step.position >= turn and r.step.generated]

    def rebuild(self) -> None:
        """Make engine and monitor for the layer; alarms need the calibration's own layer.

        What was said is read again with the next turn; the tokens that the promise has covered stay covered.
        """
        from affectscope.engines.transformers import TransformersEngine
        from affectscope.monitoring.monitor import monitor

        usable = self.calibration is not None and self.layer in (None, self.calibration.layer)
        self.monitor: Monitor = (
            self.calibration.monitor(self.vectors)
            if self.calibration and usable
            else monitor(self.vectors, layer=self.layer)
        )
        self.engine: TransformersEngine = TransformersEngine(self.model, self.monitor.read, slots=1)
        self.conversation = None
        self.column(self.emotion)

    def column(self, name: str) -> int:
        """Place of a concept.

        Raises:
            AffectscopeError: it is not read.
        """
        if name not in self.monitor.read.concepts:
            self.vectors.select([name])  # tells the nearest name
        return self.monitor.read.concepts.index(name)


def run(chat: Chat, console: Any, ask: Callable[[], str]) -> None:
    """Read lines from ``ask`` until it ends, and answer each."""
    console.print(HELP, style="dim", markup=False, highlight=False)
    while True:
        try:
            line = ask().strip()
        except (EOFError, KeyboardInterrupt):
            return
        if not line:
            continue
        try:
            if line in ("/quit", "/exit"):
                return
            if line.startswith("/"):
                _command(chat, console, line)
            else:
                answer(chat, console, line)
        except AffectscopeError as error:
            console.print(str(error), style="red", markup=False, highlight=False)


def answer(chat: Chat, console: Any, text: str) -> None:
    """One turn: the reply streams in colour; Control-C ends it and keeps what was said."""
    from affectscope.engines.base import Request
    from affectscope.monitoring.conversation import Conversation
    from affectscope.monitoring.outcome import episode_stratum
    from affectscope.monitoring.trace import restore

    turns = [*chat.messages, Message("user", text)]
    system = (Message("system", chat.system),) if chat.system else ()
    generation = chat.engine.generate(Request((*system, *turns), chat.sampling))
    if chat.conversation is None:
        stratum = episode_stratum(chat.monitor.strata, {"domain": chat.stratum}, generation.episode.prompt)
        chat.conversation = Conversation(chat.monitor, stratum, chat.spent)
    column, horizon = chat.column(chat.emotion), chat.monitor.horizon
    covered = chat.conversation.watch.generated < horizon
    began, flow = time.time(), None
    try:
        for reading in chat.conversation.read(generation):
            if reading.step.generated:
                flow = flow or _Flow(console, f"{chat.model.name[:20]} ")
                flow.put(reading.step.text, float(restore(reading.z[0, column])))
            for event in reading.events:
                _event(console, event, horizon)
                if flow:
                    flow.restart()
    except KeyboardInterrupt:
        generation.stop("interrupted")
    console.print()
    chat.messages = [*turns, Message("assistant", generation.text)]
    chat.spent = chat.conversation.watch.generated
    if covered and chat.spent >= horizon and chat.monitor.thresholds:
        console.print(
            f"the {horizon} tokens of a conversation that the promise covers are spent; alarms after them have no stated rate",
            style="dim",
        )
    _record(chat, generation, (began, time.time()))
    movers(chat, console)


def _record(chat: Chat, generation: LocalGeneration, times: tuple[float, float]) -> None:
    """Keep the turn's trace, and hold the whole conversation's for /save."""
    from affectscope.monitoring.recording import settings_of, trace_of

    assert chat.conversation is not None
    watch, turn = chat.conversation.watch, chat.conversation.turn
    settings = settings_of(chat.vectors, chat.monitor.layer, chat.sampling, chat.calibration)
    tags = {"face": "chat", "conversation": chat.name, "turn": str(len(chat.messages) // 2)}
    chat.trace = trace_of(watch, chat.name, generation.finished, times, settings, tags, keep_content=True)
    if chat.keep:
        chat.keep(
            trace_of(watch, generation.id, generation.finished, times, settings, tags, keep_content=True, since=turn)
        )


def movers(chat: Chat, console: Any, count: int = 4) -> None:
    """A strip of the concepts that lie highest and lowest over the last reply."""
    from affectscope.monitoring.trace import restore

    own = [restore(r.z[0]) for r in chat.reply]
    if not own:
        console.print("nothing was read yet", style="dim")
        return
    mean = np.nanmean(np.stack(own), axis=0)
    order = np.argsort(-mean)
    names = chat.monitor.read.concepts
    for label, some in (("up  ", order[:count]), ("down", order[::-1][:count])):
        flow = _Flow(console, f"{label} ", "dim")
        for i in some:
            flow.put(f" {names[i]} {mean[i]:+.1f} ", float(mean[i]), whole=True)
            flow.put(" ", 0.0)
        flow.end()


class _Flow:
    """Coloured pieces in lines that break between words, as they come."""

    def __init__(self, console: Any, label: str = "", style: str = "bold") -> None:
        self._console, self._indent, self._column = console, len(label), len(label)
        console.print(label, style=style, end="", markup=False)

    def put(self, piece: str, z: float, whole: bool = False) -> None:
        """One piece; it begins a new line where it would not fit and a word begins (``whole``: keep its spaces)."""
        from affectscope.terminal import coloured

        first, *rest = piece.split("\n")
        if first and (whole or first[0] == " ") and self._column + len(first) > self._console.width:
            self._line()
            first = first if whole else first.lstrip(" ")
        self._say(coloured(first, z), len(first))
        for line in rest:
            self._line(0)
            self._say(coloured(line, z), len(line))

    def restart(self) -> None:
        """Something else was printed: a line begins."""
        self._column = 0

    def end(self) -> None:
        """Close the line."""
        self._console.print()

    def _line(self, indent: int | None = None) -> None:
        self._column = self._indent if indent is None else indent
        self._console.print("\n" + " " * self._column, end="")

    def _say(self, text: Any, length: int) -> None:
        self._console.print(text, end="", soft_wrap=True)
        self._column += length


def _event(console: Any, event: Any, horizon: int) -> None:
    detail = event.detail
    if event.kind == "alarm":
        rate = f"false in at most {detail['alpha']:.2%} of conversations"
        line = (
            f"! alarm at token {event.position}: {detail['rule']} {detail['statistic']:.1f} above {detail['threshold']:.1f} "
            f"({rate if detail['promised'] else f'after the {horizon} tokens that have a promised rate'})"
        )
        console.print(f"\n{line}", style="bold red", markup=False, highlight=False)
    else:
        console.print(f"\n! {detail['fault']}: {detail['cause']}", style="bold yellow", markup=False, highlight=False)


def _command(chat: Chat, console: Any, line: str) -> None:
    name, _, rest = line.partition(" ")
    rest = rest.strip()
    if name == "/emotion":
        chat.column(rest)
        chat.emotion = rest
        _again(chat, console)
    elif name == "/layer":
        if not rest.lstrip("-").isdigit():
            raise AffectscopeError(f"/layer needs a number: one of {', '.join(map(str, chat.vectors.layers))}")
        chat.vectors.place(int(rest))
        chat.layer = int(rest)
        chat.rebuild()
        note = (
            "" if not chat.calibration or chat.layer == chat.calibration.layer else "; no alarms: calibrated at another"
        )
        console.print(f"reading layer {rest}{note}", style="dim")
    elif name == "/top":
        movers(chat, console, 8)
    elif name == "/save":
        console.print(f"saved {save(chat, Path(rest or 'chat.json'))}", style="dim", highlight=False)
    elif name in ("/new", "/system"):
        chat.system = rest if name == "/system" else chat.system
        chat.anew()
        console.print("a new conversation", style="dim")
    else:
        console.print(HELP, style="dim", markup=False, highlight=False)


def _again(chat: Chat, console: Any) -> None:
    """The last reply once more, in the colours of another concept."""
    from affectscope.monitoring.trace import restore

    column, flow = chat.column(chat.emotion), _Flow(console)
    for reading in chat.reply:
        flow.put(reading.step.text, float(restore(reading.z[0, column])))
    console.print(f"\n[dim]coloured by {chat.emotion}[/dim]", highlight=False)


def save(chat: Chat, path: Path) -> Path:
    """The conversation's trace: a page when the name ends with .html, else JSON with what was said.

    Raises:
        AffectscopeError: nothing to save, or the place cannot be written.
    """
    from affectscope.files import json_text, replacing
    from affectscope.report.trace_page import render_trace, trace_data

    if chat.trace is None:
        raise AffectscopeError("there is no reply to save yet: say something first")
    if path.suffix == ".html":
        content = render_trace(chat.trace, f"{chat.model.name}, {chat.emotion}", watch=(chat.emotion,))
    else:
        turns = [{"role": m.role, "content": m.content} for m in chat.messages]
        content = json_text({"messages": turns, "trace": trace_data(chat.trace)})
    with replacing(path) as temporary:
        temporary.write_text(content, encoding="utf-8")
    return path
