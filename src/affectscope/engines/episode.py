"""One episode's own state: its tokens and whose they are, what is in the cache, how it draws, what it was dosed with."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor

from affectscope.engines.base import Drawn, Request, Steering, TokenStep
from affectscope.engines.sampling import Sampler
from affectscope.errors import AffectscopeError
from affectscope.models.chat import TEMPLATE, ChatTokens, tokenize
from affectscope.models.load import Model
from affectscope.models.pieces import Pieces

_THINK, _NO_THINK, _CALL = "<think>", "</think>", "<tool_call>"


@dataclass(eq=False)
class Episode:
    """Everything about one generation that the engine keeps. ``ids`` is prompt and reply; ``prompt`` counts the former.

    ``texts`` and ``indices`` are each token's piece of text and place in its message. ``cached`` tokens are in the
    slot, ``told`` ones were given as steps; ``logits`` ``[vocabulary]`` follow the last token when all are cached.
    ``doses`` lists ``(first position, steering)`` in order: a dose holds until the next.
    """

    id: str
    request: Request
    tokens: ChatTokens
    texts: list[str]
    indices: list[int]
    prompt: int
    sampler: Sampler
    pieces: Pieces
    doses: list[tuple[int, Steering | None]] = field(default_factory=list)
    cached: int = 0
    told: int = 0
    slot: int = -1
    logits: Tensor | None = None
    drawn: Drawn | None = None  # log-probabilities of the token drawn last, where they were asked for
    read: list[tuple[Mapping[int, np.ndarray], Mapping[int, float]]] = field(
        default_factory=list
    )  # where it may be taken over
    queue: deque[TokenStep] = field(default_factory=deque)
    taken: float = field(default_factory=time.monotonic)  # when a step was last taken
    wanted: bool = True  # whoever reads it has taken everything and asks for more
    reply: str = ""
    given: bool = False  # another wrote the reply: its tokens come from outside, and none is drawn
    phase: str = ""  # of the reply's next tokens, once it is sure
    finished: str = ""
    error: BaseException | None = None  # what ended it, for its reader
    ending: str = ""  # why it ends once the token drawn last is run

    @property
    def ids(self) -> list[int]:
        """Token ids of prompt and reply so far."""
        return self.tokens.ids

    @property
    def ready(self) -> bool:
        """Whether it may run. With ``ahead`` 0 only when its reader asks: until then what it decides comes first."""
        if self.given and self.cached == len(self.ids):
            return False
        return len(self.queue) <= self.request.ahead if self.request.ahead else self.wanted

    def dosed(self, start: int, stop: int) -> list[tuple[int, int, Steering]]:
        """The doses that concern positions ``start`` to ``stop``, as ``(first, end, steering)``."""
        found = []
        for place, (first, steering) in enumerate(self.doses):
            end = self.doses[place + 1][0] if place + 1 < len(self.doses) else stop
            low, high = max(first, start), min(end, stop)
            if steering is not None and low < high:
                found.append((low, high, steering))
        return found

    def add(self, token: int, last: bool) -> None:
        """Put a drawn token behind the others, with the role and phase that it has by what was written before it.

        ``last`` says that it is the last one allowed. A stop string ends the reply in front of itself.
        """
        plain = isinstance(self.request.messages, str)
        phase = "none" if plain else self._phase()
        self.tokens.ids.append(token)
        self.tokens.roles.append("text" if plain else "assistant")
        self.tokens.phases.append(phase)
        self.indices.append(len(self.indices) if plain else len(self.ids) - 1 - self.prompt)
        self.texts.append(self.pieces.push(token, last))
        before, self.reply = len(self.reply), self.reply + self.texts[-1]
        if last:
            self.ending = "length"
        for stop in self.request.sampling.stop:
            found = self.reply.find(stop, max(before - len(stop), 0))
            if found >= 0:
                self.reply, self.ending = self.reply[:found], "stop"

    def _phase(self) -> str:
        if self.phase:
            return self.phase
        phase, sure = phase_of(self.reply)
        self.phase = phase if sure else ""
        return phase

    def cut(self, position: int) -> None:
        """Forget tokens from ``position`` on, and the doses that began there.

        Raises:
            AffectscopeError: the prompt cannot be rewound.
        """
        if not self.prompt <= position <= len(self.ids):
            raise AffectscopeError(
                f"position {position} cannot be rewound to: the reply lies between {self.prompt} and {len(self.ids)}"
            )
        for entries in (self.tokens.ids, self.tokens.roles, self.tokens.phases, self.texts, self.indices, self.read):
            del entries[position:]
        self.reply, self.phase, self.pieces = "".join(self.texts[self.prompt :]), "", self.pieces.after(self.ids)
        self.doses = [(first, steering) for first, steering in self.doses if first < position]
        # The last token that stays runs again, for its logits are gone.
        self.cached, self.told = min(self.cached, position - 1), min(self.told, position)
        self.logits, self.ending, self.finished = None, "", ""
        self.queue = deque(step for step in self.queue if step.position < position)

    def fork(self, name: str, seed: int | None) -> Episode:
        """Another with the same past and a future of its own."""
        same = ChatTokens(list(self.ids), list(self.tokens.roles), list(self.tokens.phases))
        return replace(
            self,
            id=name,
            tokens=same,
            texts=list(self.texts),
            indices=list(self.indices),
            sampler=self.sampler.again(seed),
            pieces=self.pieces.copy(),
            doses=list(self.doses),
            read=list(self.read),
            slot=-1,
            queue=deque(),
            wanted=False,
        )


def begin(model: Model, request: Request) -> Episode:
    """The episode of a request, nothing of it run yet.

    Raises:
        AffectscopeError: an empty prompt, one longer than the context, a dose of a wrong shape.
    """
    if isinstance(request.messages, str):
        ids = model.encode(request.messages) if request.messages.strip() else []
        roles = [TEMPLATE if i in model.special_ids else "text" for i in ids]
        tokens = ChatTokens(ids, roles, ["none"] * len(ids))
    else:
        tokens = tokenize(model, request.messages, reply=True)
    if not tokens.ids:
        raise AffectscopeError("the prompt is empty: give at least one word")
    room = model.longest - len(tokens.ids)
    if room < request.sampling.max_tokens:
        raise AffectscopeError(
            f"the prompt has {len(tokens.ids)} tokens and {model.name} takes {model.longest}: "
            + (f"ask for at most {room} tokens" if room > 0 else "shorten it")
        )
    check_steering(model, request.steering)
    pieces = Pieces(model)
    return Episode(
        id=request.id,
        request=request,
        tokens=tokens,
        texts=[pieces.push(token) for token in tokens.ids],
        indices=_indices(tokens.roles),
        prompt=len(tokens.ids),
        sampler=Sampler(request.sampling),
        pieces=pieces,
        doses=[(0, request.steering)] if request.steering else [],
    )


def check_steering(model: Model, steering: Steering | None) -> None:
    """Refuse a dose that does not fit the model.

    Raises:
        AffectscopeError: no such layer, or another width.
    """
    for layer, add in (steering.adds if steering else {}).items():
        if not 0 <= layer < model.anatomy.depth or add.shape != (model.anatomy.d_model,):
            raise AffectscopeError(
                f"a dose of shape {list(add.shape)} at layer {layer} does not fit {model.name}: it has "
                f"{model.anatomy.depth} layers of width {model.anatomy.d_model}"
            )


def _indices(roles: list[str]) -> list[int]:
    """For each token its place in the run of tokens of one role."""
    found: list[int] = []
    for position, role in enumerate(roles):
        found.append(found[-1] + 1 if position and role == roles[position - 1] else 0)
    return found


def phase_of(reply: str) -> tuple[str, bool]:
    """Phase of the token that follows ``reply``, and whether later tokens cannot change it.

    Only how the turn begins decides, so that quoting a marker later changes nothing: a leading ``<think>`` block is
    thinking until it is closed, and what begins as a JSON object or with ``<tool_call>`` is a tool call.
    """
    text = reply.lstrip()
    if text.startswith(_THINK):
        if _NO_THINK not in text:
            return "thinking", False
        text = text.split(_NO_THINK, 1)[1].lstrip()
    if text.startswith(("{", _CALL)):
        return "tool_call", True
    return "answer", not any(mark.startswith(text) for mark in (_THINK, _CALL))
