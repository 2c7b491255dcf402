"""The local reader: another model's conversation, read again as text while the reply comes.

1. What the engine behind says is heard at once and waits here; what waits is one text, so a reader that is slow takes more at a time
   and drops nothing.
2. In the reply's thread the reader goes over what is new, as if it had said it itself: its template, its baseline, its rules.
3. What cannot be read (no room, no text) is told as a fault. The reply goes on all the same.

Such a reading is of the text, by another model. It says nothing of what went on in the model that wrote it.
"""

from __future__ import annotations

import threading
from asyncio import Event as Flag
from asyncio import Task
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

from affectscope.concepts.neutral import Message
from affectscope.engines.base import Sampling, TokenStep
from affectscope.engines.given import GivenText
from affectscope.engines.running import RunningEngine
from affectscope.errors import AffectscopeError
from affectscope.guarding.policy import Policy
from affectscope.guarding.session import Piece, Question
from affectscope.models.load import Model
from affectscope.monitoring.calibration import Calibration
from affectscope.monitoring.monitor import Monitor, Reading
from affectscope.monitoring.recording import settings_of
from affectscope.monitoring.trace import Event
from affectscope.server.choices import Choice
from affectscope.server.errors import RefusedError
from affectscope.server.replies import Each
from affectscope.server.served import Served
from affectscope.server.talks import Talk, WatchedTalk
from affectscope.server.upstream import Upstream
from affectscope.vectors.artefact import ConceptVectors

SAID = "a reading of the text by another model"
LEFT = "left"
_LOOK = 1.0
_NO_PROMISE = -1


class Heard:
    """A reply of the engine behind, as far as it has come. Said by the server's loop, taken by one thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._pieces: list[str] = []
        self._length = self._taken = 0
        self.read = 0
        self.most_behind = 0
        self.model = self.finished = ""
        self.deaf = False  # nobody listens any more

    def say(self, text: str) -> None:
        """It goes on."""
        with self._changed:
            if not text or self.deaf:
                return
            self._pieces.append(text)
            self._length += len(text)
            self.most_behind = max(self.most_behind, self.behind)
            self._changed.notify()

    def end(self, finished: str) -> None:
        """It is over; a second end is none."""
        with self._changed:
            self.finished = self.finished or finished
            self._changed.notify()

    @property
    def behind(self) -> int:
        """Characters that have come and are not read."""
        return self._length - self.read

    def take(self) -> tuple[str, bool] | None:
        """The text as it is now, and whether it is whole, as soon as something is new; None where nothing is for a second."""
        with self._changed:
            if self._length == self._taken and not self.finished:
                self._changed.wait(_LOOK)
            if self._length == self._taken and not self.finished:
                return None
            text, self._taken = "".join(self._pieces), self._length
            self._pieces = [text]
            whole = bool(self.finished)
        # Two halves of a character may come one by one.
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"), whole


class TextTalk(WatchedTalk):
    """A conversation of the engine behind, read again. ``heard`` is the reply under way; ``unread`` says why some of it was not."""

    def __init__(
        self, reader: RunningEngine, monitor: Monitor, settings: Mapping[str, Any], tags: Mapping[str, str], keep: bool
    ) -> None:
        super().__init__(reader, monitor, uuid4().hex, settings, tags, keep)
        self._reader, self.heard, self.unread = reader, Heard(), ""

    def pieces(
        self, messages: Sequence[Message] | str, sampling: Sampling, logprobs: int | None, each: Each
    ) -> Iterator[Piece]:
        """See :class:`Talk`; the pieces are the text as the reader's tokens."""
        heard = self.heard
        self._tags["upstream_model"], self.unread = heard.model, ""
        try:
            text = GivenText(self._reader, messages if isinstance(messages, str) else tuple(messages))
        except AffectscopeError as error:
            self._leave_out(str(error))
        else:
            try:
                for reading in self._conversation.read(self._steps(text, heard)):
                    each(reading)
                    if reading.step.generated:
                        yield Piece("text", reading.step.text, readings=(reading,))
            finally:
                text.close()
        while not heard.finished:
            heard.take()
        self._tags["upstream_model"] = heard.model
        yield Piece("end", heard.finished)

    def dose(self, concept: str, s: float, by: str) -> None:
        """See :class:`Talk`."""
        raise AffectscopeError("the engine behind cannot be steered: serve the model itself")

    def _steps(self, text: GivenText, heard: Heard) -> Iterator[TokenStep]:
        """The prompt's, while the first words are awaited, then those of the reply as it grows."""
        yield from text.steps()
        whole = False
        while not whole and heard.finished != LEFT:
            if not self._reader.alive:
                raise AffectscopeError("the reader's engine has stopped: start the server again")
            if (taken := heard.take()) is None:
                continue
            said, whole = taken
            text.grow(said, whole)
            yield from text.steps()
            heard.read = text.characters
            if text.full:
                most = self._reader.model.longest
                self._leave_out(f"the reader takes {most} tokens: what comes after {text.characters} characters of this reply is not read")  # fmt: skip
                return
        if whole and heard.finished != LEFT:
            heard.read = len(said)

    def _leave_out(self, cause: str) -> None:
        """Something is not read: that is a fault."""
        self.unread, self.heard.deaf = cause, True
        self.happened.append(Event(self.place, "fault", {"fault": "missing steps", "cause": cause}))


@dataclass
class Reread(Choice):
    """A choice whose words are another model's. ``rows`` are readings that nobody was told yet."""

    heard: Heard = field(default_factory=Heard)
    left_out: tuple[str, ...] = ()
    begun: Flag = field(default_factory=Flag)
    rows: list[Reading] = field(default_factory=list)
    sent: int = 0  # of its tokens, those whose readings were
    failed: str = ""
    refused: RefusedError | None = None

    def _prepare(self) -> None:
        super()._prepare()
        assert self._named is not None
        assert isinstance(self._named.talk, TextTalk)
        self._named.talk.heard, self._named.live.source = self.heard, self.heard.model
        self.begun.set()

    @property
    def source(self) -> dict[str, str]:
        """Whose text it is, and who read it. Stands in everything that is told."""
        return {"kind": "text", "reader": self.state.served.name, "of": self.heard.model, "said": SAID}

    def summary(self) -> dict[str, Any]:
        """The vendor object at the end of a reply."""
        made: dict[str, Any] = {"v": 1, "trace": None, "finished": self.heard.finished}
        unread = self.failed
        if self._named is not None:
            made = super().summary()
            assert isinstance(self._named.talk, TextTalk)
            unread = unread or self._named.talk.unread
        alarms = [dict(e.detail) | {"at": e.position} for r in self.assembler.readings for e in r.events if e.kind == "alarm"]  # fmt: skip
        return made | {
            "source": self.source,
            "alarms": alarms,
            "unread": unread or None,
            "left_out": list(self.left_out),
            "behind": self.heard.behind,
            "most_behind": self.heard.most_behind,
        }


class Proxied(Served):
    """The reader, and the engine behind whose text it reads.

    Args:
        more: as :class:`Served` takes it.

    Raises:
        AffectscopeError: a policy that acts; else as :class:`Served`.
    """

    mode = "proxy"

    def __init__(
        self,
        upstream: Upstream,
        model: Model,
        vectors: ConceptVectors,
        calibration: Calibration | None = None,
        policies: Sequence[Policy] = (),
        **more: Any,
    ) -> None:
        super().__init__(model, vectors, calibration, policies, **more)
        self.upstream = upstream
        self.readings: set[Task[None]] = set()  # those that go on behind an answer that was sent
        assert self.monitor is not None  # there are vectors
        # Thresholds are of the reader's own replies, so none of them promises anything here.
        self.monitor = replace(self.monitor, horizon=_NO_PROMISE)

    @property
    def grade(self) -> str:
        """Nothing here is guarded."""
        return "watched"

    @property
    def s_max(self) -> float:
        """Nothing to steer."""
        return 0.0

    def begin(
        self, policy: Policy | None, tags: Mapping[str, str], ask: Callable[[Question], str | None] | None = None
    ) -> Talk:
        """A talk of another's text."""
        assert self.vectors is not None
        assert self.monitor is not None
        own = settings_of(self.vectors, self.monitor.layer, self.sampling, self.calibration)
        settings = {**own, "face": "proxy", "reading_of": "text", "sampling": {}, "engine": "another's text"}
        tags = {**tags, "face": "proxy", "reading_of": "text"} | ({"policy": policy.name} if policy is not None else {})
        return TextTalk(self.engine, self.monitor, settings, tags, self.kept.content)

    def _check(self, policies: Sequence[Policy]) -> None:
        for policy in policies:
            require_observing(policy)
        super()._check(policies)


def require_observing(policy: Policy) -> None:
    """Refuse a policy that acts.

    Raises:
        AffectscopeError: it does more than to record.
    """
    acts = sorted({rung.action for part in policy.rules.values() for rung in part.ladder} - {"none", "log"})
    if acts:
        raise AffectscopeError(f"the policy {policy.name!r} may {acts[0]}, and the engine behind --upstream cannot be acted on: give one that observes, such as observe")  # fmt: skip
