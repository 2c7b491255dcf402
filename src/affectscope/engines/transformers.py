"""The engine over a transformers model: its own loop, its own cache, many episodes in one forward pass.

1. Whoever waits for a step drives the loop, under one lock: no thread of its own, nothing runs that nobody wants.
2. A pass takes every episode whose reader wants more: a piece of a prompt, or the token drawn last.
3. Scores are taken inside the pass; each token becomes a step. Its successor is drawn at the *next* pass, so that
   whatever was decided in between (a dose, a stop, a fork) comes before the draw.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import pairwise
from typing import Any
from uuid import uuid4

import torch
from torch import Tensor

from affectscope.engines.base import Request, Sampling, TokenStep
from affectscope.engines.cache import Cache, Segment, cached_attention
from affectscope.engines.episode import Episode, begin
from affectscope.engines.local import LocalGeneration
from affectscope.engines.packed_weights import PackedWeights
from affectscope.engines.prefixes import Held, Scores, held, shared
from affectscope.engines.readout import Reader, Readout
from affectscope.engines.sampling import log_probabilities
from affectscope.errors import AffectscopeError
from affectscope.models.anatomy import logits_of
from affectscope.models.forward import TOKEN_BUDGET, Enough
from affectscope.models.load import Model
from affectscope.models.steering import Dose, steered

PATIENCE = 5.0
"""Seconds after which an episode whose steps nobody takes gives its slot to one that waits; it is run again later."""
_IDLE = 0.005


class TransformersEngine:
    """Generates with a loaded model; ``slots`` episodes run at once, the others wait their turn.

    Args:
        read: what to read of each token; nothing when None.
        reuse: a prompt takes over what it shares with another that was run, readings included. Faster; rounding then also
            depends on what was run before, so leave it off where two runs must be the same bits.

    Raises:
        AffectscopeError: the model's attention cannot be replaced, or gives something else with a cache than without.
    """

    def __init__(self, model: Model, read: Readout | None = None, slots: int = 8, reuse: bool = False) -> None:
        if not model.packed:
            raise AffectscopeError(
                f"{model.name} computes attention in a way that cannot be replaced, so it cannot be generated with here: "
                "put affectscope.watch around your own loop"
            )
        self.model, self.read = model, read
        self.lock = threading.RLock()
        self.prefill = TOKEN_BUDGET  # prompt tokens of one pass while others write
        self._reader = Reader(model.anatomy, read) if read else None
        self._cache = Cache(slots)
        self._weights = PackedWeights(model.network)
        self._slots: list[Episode | None] = [None] * slots
        self.passing: Sequence[Episode] = ()  # what the pass under way runs
        self._reuse, self._left = reuse, list[Held | None]([None] * slots)
        self._waiting: list[Episode] = []
        self._ends = _end_tokens(model)
        self._check()

    def generate(self, request: Request) -> LocalGeneration:
        """Begin an episode; see :class:`affectscope.engines.base.Engine`."""
        return self.enter(begin(self.model, request))

    def enter(self, episode: Episode) -> LocalGeneration:
        """Put an episode of which nothing is run yet behind those that wait."""
        with self.lock:
            self._waiting.append(episode)
        return self._handle(episode)

    def stream(self, requests: Sequence[Request]) -> Iterator[tuple[LocalGeneration, TokenStep | None]]:
        """Run several together; their steps as they come, and None once for each that has ended."""
        running = [self.generate(request) for request in requests]
        while running:
            if not any(g.episode.queue or g.episode.finished for g in running):
                self.advance()
            going = []
            for generation in running:
                while (step := generation.take()) is not None:
                    yield generation, step
                if generation.finished:
                    yield generation, None
                else:
                    going.append(generation)
            running = going

    def advance(self) -> None:
        """One forward pass, or a short wait when no episode has room for a step."""
        with self.lock:
            done = self._pass()
        if not done:
            time.sleep(_IDLE)

    def _pass(self) -> bool:
        self._admit()
        segments: list[Segment] = []
        episodes: list[Episode] = []
        self.passing = episodes
        active = [e for e in self._slots if e is not None and e.ready]
        writing = [e for e in active if e.logits is not None]
        budget = self.prefill if writing else TOKEN_BUDGET
        # Those who write come first: a long prompt may take many passes, and stops nobody.
        prompts = [e for e in active if e.logits is None]
        for episode in [*writing, *(self._begun(prompts) if self._reuse else prompts)]:
            writes = episode.logits is not None
            if not (self._draw(episode) if writes else budget > 0):
                continue
            stop = len(episode.ids) if writes else min(len(episode.ids), episode.cached + budget)
            budget -= stop - episode.cached
            episodes.append(episode)
            segments.append(Segment(episode.slot, episode.cached, stop))
        if not episodes:
            return False
        logits, scores = self._forward(episodes, segments)
        begin = 0
        for row, (episode, segment) in enumerate(zip(episodes, segments, strict=True)):
            rows = range(begin, begin := begin + segment.stop - segment.start)
            self._tell(episode, segment, [_row(scores, row) for row in rows])
            if segment.stop == len(episode.ids):
                episode.logits = logits[row]
        for episode in episodes:  # after all are told: whoever moves into the slot must know what it has cached
            if episode.ending and episode.logits is not None:
                self.end(episode, episode.ending)
        return True

    def _begun(self, prompts: Sequence[Episode]) -> list[Episode]:
        """Those prompts that run now: one that begins as another does takes over what that has, or waits for it."""
        run: list[Episode] = []
        for episode in prompts:
            if episode.told or self._take_over(episode, run):
                run.append(episode)
        return [e for e in run if e.ready]

    def _take_over(self, episode: Episode, run: Sequence[Episode]) -> bool:
        """Take over the longest beginning that a slot holds; False to wait for one that runs in this pass."""
        best, source, kept = 0, -1, None
        for slot, (other, left) in enumerate(zip(self._slots, self._left, strict=True)):
            if other is not None and other is not episode:
                common = shared(episode.ids, episode.doses, other.ids, other.doses)
                if common > max(best, other.cached) and any(other is e for e in run if e.ready):
                    return False
                common = min(common, other.cached)
                found = held(other) if common > best else None
            else:
                common, found = (shared(episode.ids, episode.doses, left.ids, left.doses) if left else 0), left
            if common > best:
                best, source, kept = common, slot, found
        self._left[episode.slot] = None  # it is written over from here on
        if kept is None:
            return True
        if source != episode.slot:
            self._cache.copy(source, episode.slot, best)
        self._tell(episode, Segment(episode.slot, 0, best), kept.read[:best])
        return True

    def _draw(self, episode: Episode) -> bool:
        """Draw the token that follows; False when the episode ends here instead."""
        assert episode.logits is not None
        token = episode.sampler.draw(episode.logits, episode.ids)
        if not bool(torch.isfinite(episode.logits[token])):
            self.end(episode, "fault")
            return False
        if episode.request.logprobs is not None:
            episode.drawn = log_probabilities(episode.logits, token, episode.request.logprobs)
        episode.logits = None
        if token in self._ends:
            episode.ids.append(token)  # it ends the text and is none of it, so it is not run and not read
            self.end(episode, "end")
            return False
        count = len(episode.ids) - episode.prompt + 1
        episode.add(token, last=count == episode.request.sampling.max_tokens)
        return True

    def _forward(
        self, episodes: Sequence[Episode], segments: Sequence[Segment]
    ) -> tuple[Tensor, dict[int, tuple[Any, Any]]]:
        """Logits ``[segments, vocabulary]`` after each segment, and the read-out's scores of all tokens."""
        model, begins, ids, doses = self.model, list[int](), list[int](), list[Dose]()
        for place, (episode, segment) in enumerate(zip(episodes, segments, strict=True)):
            begins.append(len(ids) - segment.start)
            ids += episode.ids[segment.start : segment.stop]
            for start, stop, steering in episode.dosed(segment.start, segment.stop):
                adds = {layer: torch.from_numpy(add) for layer, add in steering.adds.items()}
                doses.append(Dose(place, start, stop, adds))
        seen: list[Tensor] = []

        def last(_module: object, args: tuple[Tensor, ...]) -> None:
            seen.append(args[0].reshape(-1, args[0].shape[-1]))
            raise Enough

        def flat(place: int | None, position: int) -> list[int]:
            assert place is not None
            return [begins[place] + position]

        handle = model.anatomy.final_norm.register_forward_pre_hook(last)
        tokens = torch.tensor([ids], device=model.device)
        try:
            with (
                torch.inference_mode(),
                self._weights.used(),
                cached_attention(model.network, self._cache, segments) as positions,
                # Entered before the doses, so that its hooks run first: a reading is taken before the injection.
                self._reader.reading() if self._reader else nullcontext(),
                steered(model, doses, flat),
            ):
                model.network(tokens, position_ids=positions, use_cache=False)
        except Enough:
            pass
        finally:
            handle.remove()
        ends = torch.tensor([b + s.stop - 1 for b, s in zip(begins, segments, strict=True)], device=model.device)
        with torch.inference_mode(), self._weights.used():
            logits = logits_of(model.network, model.anatomy, seen[0][ends])
        return logits, self._reader.take() if self._reader else {}

    def _tell(self, episode: Episode, segment: Segment, read: Sequence[Scores]) -> None:
        """Put a segment's tokens into the episode's queue, with what was read of each; those run again are not told twice."""
        tokens = episode.tokens
        for position in range(max(segment.start, episode.told), segment.stop):
            scores, norms = read[position - segment.start]
            step = TokenStep(
                episode=episode.id,
                position=position,
                token=tokens.ids[position],
                text=episode.texts[position],
                role=tokens.roles[position],
                phase=tokens.phases[position],
                index=episode.indices[position],
                generated=position >= episode.prompt,
                scores=scores,
                norms=norms,
                drawn=episode.drawn if position >= episode.prompt else None,
            )
            if self._reuse:
                episode.read.append((scores, norms))
            episode.queue.append(step)
            episode.wanted = False
        episode.cached, episode.told = segment.stop, max(episode.told, segment.stop)

    def _admit(self) -> None:
        """Give free slots to those that wait; after a while also the slots whose steps nobody takes."""
        if None not in self._slots and any(e.ready for e in self._waiting):
            now = time.monotonic()
            for episode in [e for e in self._slots if e is not None]:
                if not episode.ready and now - episode.taken > PATIENCE:
                    self._free(episode)
                    episode.cached, episode.logits = 0, None
                    self._waiting.append(episode)
                    break
        while self._waiting and None in self._slots:
            ready = next((i for i, e in enumerate(self._waiting) if e.ready), 0)
            self._place(self._waiting.pop(ready))

    def _place(self, episode: Episode) -> None:
        episode.slot = self._slots.index(None)
        self._slots[episode.slot] = episode  # what lies in the slot stays there until it is written over

    def _free(self, episode: Episode) -> None:
        """Take its slot away; the last occupied one moves into the gap, so that a batch stays side by side."""
        if episode in self._waiting:
            self._waiting.remove(episode)
        if episode.slot < 0:
            return
        gap, episode.slot = episode.slot, -1
        self._slots[gap] = None
        left = self._left[gap] = held(episode) if self._reuse else None
        mover = next((e for e in reversed(self._slots[gap:]) if e is not None), None)
        if mover is not None:
            if left is None:
                self._cache.copy(mover.slot, gap, mover.cached)
            else:
                self._cache.swap(mover.slot, gap, max(mover.cached, len(left.ids)))
            self._left[mover.slot], self._left[gap] = left, None
            self._slots[mover.slot], self._slots[gap], mover.slot = None, mover, gap

    def end(self, episode: Episode, reason: str) -> None:
        """End an episode; its slot is free, its untaken steps stay."""
        episode.finished, episode.logits = reason, None
        self._free(episode)

    def fork(self, episode: Episode, seed: int | None) -> LocalGeneration:
        """Another episode with the same past, from a copy of its cache where a slot is free."""
        other = episode.fork(uuid4().hex, seed)
        if episode.slot >= 0 and None in self._slots and not self._waiting:
            self._place(other)
            self._cache.copy(episode.slot, other.slot, episode.cached)
        else:
            other.cached, other.logits = 0, None
            self._waiting.append(other)
        return self._handle(other)

    def _handle(self, episode: Episode) -> LocalGeneration:
        return LocalGeneration(self, episode)

    def rewind(self, episode: Episode, position: int) -> None:
        """Cut the reply at ``position``; an episode that had ended goes on."""
        ended = bool(episode.finished)
        episode.cut(position)
        if ended:
            episode.cached = 0
            self._waiting.append(episode)

    def _check(self) -> None:
        """With the cache, in pieces and beside another episode, the logits must be those of one plain pass."""
        ids = self.model.encode("The ferry leaves at nine and returns before the shops close.")[:10]
        with torch.inference_mode():
            plain = self.model.network(torch.tensor([ids], device=self.model.device), use_cache=False).logits[0, -1]
        found = []
        for cuts in ((0, 4, len(ids) - 1, len(ids)), (0, len(ids) - 2, len(ids) - 1, len(ids))):
            episode = begin(self.model, Request("x", Sampling(max_tokens=1)))
            episode.tokens.ids[:] = ids
            other = begin(self.model, Request("y z", Sampling(max_tokens=1)))
            other.tokens.ids[:] = ids[::-1]
            episode.slot, other.slot = 0, min(1, len(self._slots) - 1)
            for start, stop in pairwise(cuts):
                pair = [(episode, Segment(0, start, stop))]
                if len(self._slots) > 1:
                    pair.append((other, Segment(1, start, stop)))
                logits, _ = self._forward([e for e, _ in pair], [s for _, s in pair])
            found.append(logits[0])
        gap = max(float(1 - torch.cosine_similarity(plain.float(), f.float(), dim=0)) for f in found)
        if not gap < (1e-3 if plain.dtype == torch.float32 else 1e-2):
            raise AffectscopeError(
                f"{self.model.name} gives other logits with a cache than without (they differ by {gap:.1e} in cosine): "
                "put affectscope.watch around your own loop"
            )


def _row(scores: Mapping[int, tuple[Any, Any]], row: int) -> Scores:
    """What was read of one token: by layer its scores and its norm."""
    values = {layer: every[row] for layer, (every, _) in scores.items()}
    return values, {layer: float(norms[row]) for layer, (_, norms) in scores.items()}


def _end_tokens(model: Model) -> frozenset[int]:
    """Ids that end a reply: those of the generation settings and the tokenizer's own."""
    config: Any = getattr(model.network, "generation_config", None)
    named = getattr(config, "eos_token_id", None)
    found = named if isinstance(named, list) else [named]
    return frozenset(i for i in (*found, model.tokenizer.eos_token_id) if i is not None)
