"""A sequence that counts how often its elements are read: the resource of the third family of tasks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Self, overload


class Metered(Sequence[Any]):
    """A read-only sequence that behaves as a list when read. ``reads`` is the number of elements read so far.

    An integer index counts one, each step of an iteration one, a slice (which gives a plain list) its length, and
    ``len()`` nothing. Whatever looks through it (``in``, ``count``, ``sorted``, ``==``, ``+``) counts what it looks at.

    Raises:
        IndexError: an index beyond the ends, as a list does; it counts nothing.
    """

    __hash__ = None  # type: ignore[assignment]
    __slots__ = ("__items", "reads")

    def __init__(self, items: Iterable[Any]) -> None:
        self.__items = list(items)
        self.reads = 0

    def __len__(self) -> int:
        return len(self.__items)

    @overload
    def __getitem__(self, place: int) -> Any: ...
    @overload
    def __getitem__(self, place: slice) -> list[Any]: ...
    def __getitem__(self, place: int | slice) -> Any:
        found = self.__items[place]
        self.reads += len(found) if isinstance(place, slice) else 1
        return found

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, list | Metered):
            return NotImplemented
        return self is other or (len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True)))

    def __add__(self, other: Sequence[Any]) -> list[Any]:
        return [*self, *other]

    def __radd__(self, other: Sequence[Any]) -> list[Any]:
        return [*other, *self]

    def copy(self) -> list[Any]:
        """A plain list of all elements, each read once."""
        return list(self)

    def __copy__(self) -> list[Any]:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> list[Any]:
        return self.copy()

    def __reduce__(self) -> tuple[type[Self], tuple[list[Any]]]:
        return type(self), (self.copy(),)

    def __repr__(self) -> str:
        # The elements stay hidden: printing them would be reading them.
        return f"<{len(self)} elements, {self.reads} read>"
