"""The seam: what every back end implements, and all that anything above it may use.

A request becomes a generation, and a generation a stream of token steps: the prompt's tokens first, then the
generated ones. Each carries what was read inside the forward pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable
from uuid import uuid4

import numpy as np

from affectscope.concepts.neutral import Message
from affectscope.errors import AffectscopeError


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn.

    ``temperature`` 0 takes the likeliest. ``top_k`` 0 and ``top_p`` 1 keep all. ``repetition_penalty`` divides positive
    logits of tokens that stand in the prompt or the reply (and multiplies negative ones). ``stop`` strings end the
    reply. ``max_tokens`` counts generated tokens. Without a ``seed`` one is drawn, and told in the generation.

    Raises:
        AffectscopeError: a value out of its range.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    max_tokens: int = 256

    def __post_init__(self) -> None:
        ranges = (
            ("temperature", 0 <= self.temperature <= 100, "from 0 to 100"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("top_k", self.top_k >= 0, "0 (all) or more"),
            ("repetition_penalty", 0 < self.repetition_penalty <= 100, "above 0, and 1 for none"),
            ("max_tokens", self.max_tokens >= 1, "at least 1"),
        )
        for name, right, wanted in ranges:
            if not right:
                raise AffectscopeError(f"{name} is {getattr(self, name)}: give a value {wanted}")
        if not all(self.stop):
            raise AffectscopeError("an empty stop string would end every reply at once: leave it out")


@dataclass(frozen=True, slots=True)
class Steering:
    """A dose: what is added to the residual stream after each layer's block, ``{layer: [d_model] float32}``.

    ``label`` says what it is in traces. The arrays are scaled already: strength x mean norm x direction.
    """

    adds: Mapping[int, np.ndarray]
    label: str = ""


@dataclass(frozen=True)
class Request:
    """One episode to be generated.

    ``messages`` go through the model's chat template; a plain string is continued as it stands. ``ahead`` is how many
    steps the engine may compute beyond what was taken: 0 keeps reader and engine in step, so that every decision falls
    before the next token is drawn. ``logprobs``: how many of the likeliest tokens to tell with each one that is drawn, beside
    its own log-probability; None for neither.
    """

    messages: tuple[Message, ...] | str
    sampling: Sampling = Sampling()
    steering: Steering | None = None
    id: str = field(default_factory=lambda: uuid4().hex)
    ahead: int = 0
    logprobs: int | None = None


class Drawn(NamedTuple):
    """Log-probabilities, in nats and before temperature, of a token that was drawn and of the likeliest, ``(token, value)``."""

    logprob: float
    likeliest: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class TokenStep:
    """One token that went through the model, and what was read of it.

    ``position`` counts from 0 through prompt and reply; ``index`` counts inside the message. ``text`` is what the
    token adds to the text: empty while bytes of one character are incomplete. ``scores`` holds for each read layer the
    dot products ``[probes, concepts]``, float32, in the read-out's order, and ``norms`` the residual's length there. ``drawn``
    is told of generated tokens where the request asked for it.
    """

    episode: str
    position: int
    token: int
    text: str
    role: str
    phase: str
    index: int
    generated: bool
    scores: Mapping[int, np.ndarray]
    norms: Mapping[int, float]
    drawn: Drawn | None = None


@runtime_checkable
class Generation(Protocol):
    """One episode's live handle. Its state belongs to it alone."""

    @property
    def id(self) -> str:
        """The request's id; a fork has one of its own."""

    @property
    def finished(self) -> str:
        """Why it ended (``end``, ``length``, ``stop``, or the reason given to :meth:`stop`); empty while it runs."""

    @property
    def text(self) -> str:
        """The reply so far, without the stop string."""

    def __iter__(self) -> Iterator[TokenStep]:
        """Token steps in order, each once."""

    def __next__(self) -> TokenStep:
        """The next step; the engine runs until there is one."""

    def steer(self, steering: Steering | None) -> int:
        """Dose from the next token on (None: no more); returns the first position that this concerns."""

    def stop(self, reason: str) -> None:
        """End it now; what it held is free."""

    def fork(self, n: int, seeds: Sequence[int] | None = None) -> Sequence[Generation]:
        """``n`` more generations with the same tokens so far, from the same cache; for counterfactuals."""

    def rewind(self, position: int) -> None:
        """Forget every generated token from ``position`` on, doses as well, and go on from there."""


class Engine(Protocol):
    """A model that generates; how many episodes run at once is its own business."""

    def generate(self, request: Request) -> Generation:
        """Begin an episode.

        Raises:
            AffectscopeError: an empty prompt, or one that is longer than the model's context.
        """

    def stream(self, requests: Sequence[Request]) -> Iterator[tuple[Generation, TokenStep | None]]:
        """Run several together; their steps as they come, and None once for each that has ended."""
