"""A text that another wrote, read while it grows: its tokens are given, and none is drawn.

1. The prompt ends where the reader itself would begin to speak; the text's tokens follow as if the reader had written them.
2. What was given stays given, in its slot, so that only new tokens go through the model.
3. The last few tokens of a text that still grows wait, for what follows may change them.
"""

from __future__ import annotations

from collections.abc import Iterator

from affectscope.concepts.neutral import Message
from affectscope.engines.base import Request, Sampling, TokenStep
from affectscope.engines.episode import begin
from affectscope.engines.running import RunningEngine
from affectscope.errors import AffectscopeError

HOLD = 4
"""Tokens at the end of a growing text that wait."""


class GivenText:
    """One text behind one prompt. For one thread.

    Args:
        messages: the conversation that the text answers, or the plain text that it goes on with.

    Raises:
        AffectscopeError: a prompt that is empty, does not fit, or that the reader's template cannot hold.
    """

    def __init__(self, engine: RunningEngine, messages: tuple[Message, ...] | str) -> None:
        self._episode = begin(engine.model, Request(messages, Sampling(max_tokens=1)))
        self._episode.given = True
        self._engine, self._generation, self._taken = engine, engine.enter(self._episode), 0
        self._given: list[int] = []  # of the text from ``_base`` on
        self._base = self._end = 0
        chat = not isinstance(messages, str) and not getattr(engine.model.tokenizer, "chat_template", None)
        self._lead = " " if chat else ""  # our plain frame has a space behind the name of who speaks
        self.full = False

    @property
    def characters(self) -> int:
        """How much of the text its tokens cover so far."""
        return max(0, self._end - len(self._lead))

    def grow(self, text: str, whole: bool) -> None:
        """Give the text as it is now; it begins as it did before.

        Args:
            whole: nothing follows.

        ``full`` is set where the reader's context has no room for the rest of it.
        """
        new, ends = self._new(self._lead + text, whole)
        room = max(0, self._engine.model.longest - len(self._episode.ids))
        if len(new) > room:
            self.full, new = True, new[:room]
        if not new:
            return
        self._end = ends[len(new) - 1]
        self._given += new
        with self._engine.changed:
            for token in new:
                self._episode.add(token, last=False)
            self._episode.logits = None
            self._engine.changed.notify_all()

    def steps(self) -> Iterator[TokenStep]:
        """The steps that were not taken yet, until all that was given is read.

        Raises:
            AffectscopeError: the engine has stopped.
        """
        while self._taken < len(self._episode.ids):
            step = next(self._generation, None)
            if step is None:
                raise AffectscopeError("the reader's engine has stopped: start the server again")
            self._taken = step.position + 1
            yield step

    def close(self) -> None:
        """Nothing more is given; its slot is free."""
        self._generation.stop("read")

    def _new(self, text: str, whole: bool) -> tuple[list[int], list[int]]:
        """Tokens that follow those given, and where in the text each ends."""
        how = {"add_special_tokens": False, "split_special_tokens": True, "return_offsets_mapping": True}
        made = self._engine.model.tokenized(text[self._base :], **how)
        ids, had = made["input_ids"], len(self._given)
        if ids[:had] != self._given:  # what came changes what was read: that stays, and the rest is taken by itself
            self._base, self._given = self._end, []
            return self._new(text, whole)
        stop = len(ids) if whole else max(had, len(ids) - HOLD)
        return ids[had:stop], [self._base + end for _, end in made["offset_mapping"][had:stop]]
