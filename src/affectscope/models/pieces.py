"""Tokens as pieces of text that join to the whole, one at a time."""

from __future__ import annotations

from collections.abc import Sequence

from affectscope.models.load import Model

BROKEN = "\ufffd"
"""What a decoder gives for bytes that are no whole character."""

_LONGEST = 8  # tokens that one character may take; what is broken after that stays broken


class Pieces:
    """What each token adds to the text. Bytes of one character go with its last token."""

    def __init__(self, model: Model) -> None:
        self._decode = model.tokenizer.decode
        self._context: list[int] = []
        self._pending: list[int] = []

    def push(self, token: int, last: bool = False) -> str:
        """The text that ``token`` completes; ``last`` gives what is left even if it is no whole character."""
        self._pending.append(token)
        # Decoded with the token before it: some decoders drop a space at the start of what they are given.
        before = self._text(self._context)
        piece = self._text(self._context + self._pending)[len(before) :]
        if piece.endswith(BROKEN) and not last and len(self._pending) < _LONGEST:
            return ""
        self._context, self._pending = self._pending[-1:], []
        return piece

    def copy(self) -> Pieces:
        """Another that goes on from here."""
        other = object.__new__(Pieces)
        other._decode, other._context, other._pending = self._decode, list(self._context), list(self._pending)
        return other

    def after(self, ids: Sequence[int]) -> Pieces:
        """Another that has seen ``ids`` and nothing else."""
        other = self.copy()
        other._context, other._pending = [], []
        for token in ids:
            other.push(token)
        return other

    def _text(self, ids: list[int]) -> str:
        text: str = self._decode(ids, clean_up_tokenization_spaces=False) if ids else ""
        return text


def pieces(model: Model, ids: Sequence[int]) -> list[str]:
    """The text of each token such that all joined are the whole text."""
    running = Pieces(model)
    return [running.push(token, last=i == len(ids) - 1) for i, token in enumerate(ids)]
