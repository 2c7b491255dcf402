"""What waits for a person: a session's thread stands still until the answer, or until its time is over, which is a no."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import uuid4

from affectscope.guarding.session import Question
from affectscope.server.errors import RefusedError

ANSWERS = ("approved", "denied")
_LOOK = 0.25


@dataclass
class Escalation:
    """One question. ``answered`` is empty while it waits, ``expired`` when nobody came."""

    id: str
    tenant: str
    session: str
    question: Question
    asked: float
    deadline: float
    answered: Literal["", "approved", "denied", "expired", "left"] = ""
    by: str = ""
    _done: threading.Event = field(default_factory=threading.Event, repr=False)

    def plain(self) -> dict[str, Any]:
        """As the API shows it. What was said stands in it: who may answer must see what it is about."""
        call = self.question.call
        return {
            "id": self.id,
            "tenant": self.tenant,
            "session": self.session,
            "reason": self.question.reason,
            "text": self.question.text,
            "tool": {"name": call.name, "arguments": dict(call.arguments)} if call else None,
            "asked": self.asked,
            "deadline": self.deadline,
            "answered": self.answered,
            "by": self.by,
        }


class Inbox:
    """All questions that wait, of every session. For many threads.

    Args:
        changed: called when a question comes or goes.
    """

    def __init__(self, changed: Callable[[Escalation], None] | None = None) -> None:
        self._lock, self._open = threading.Lock(), dict[str, Escalation]()
        self._changed = changed or (lambda _escalation: None)

    def ask(self, tenant: str, session: str, question: Question, left: Callable[[], bool]) -> str | None:
        """Wait for a person: ``approved``, ``denied``, or None for no answer. ``left``: whether nobody waits for it any more."""
        now = time.time()
        one = Escalation(uuid4().hex, tenant, session, question, now, now + question.seconds)
        with self._lock:
            self._open[one.id] = one
        self._changed(one)
        until = time.monotonic() + question.seconds
        try:
            while not one._done.wait(max(0.0, min(_LOOK, until - time.monotonic()))):
                if left() or time.monotonic() >= until:
                    break
        finally:
            with self._lock:  # an answer that came in the last moment holds; after this none can
                self._open.pop(one.id, None)
                one.answered = one.answered or ("left" if left() else "expired")
            self._changed(one)
        return one.answered if one.answered in ANSWERS else None

    def list(self, tenant: str | None = None) -> tuple[Escalation, ...]:
        """Those that wait, the oldest first; of one tenant, or of all when None."""
        with self._lock:
            return tuple(e for e in self._open.values() if tenant is None or e.tenant == tenant)

    def answer(self, name: str, answer: str, by: str, tenant: str | None = None) -> Escalation:
        """A person's word.

        Raises:
            RefusedError: 404 for one that does not wait (any more), or is another tenant's; 400 for no answer.
        """
        if answer not in ANSWERS:
            raise RefusedError(400, f"an answer is {' or '.join(ANSWERS)}, not {answer!r}", param="answer")
        with self._lock:
            one = self._waiting(name, tenant)
            one.answered, one.by = answer, by  # type: ignore[assignment]
            one._done.set()
        return one

    def require(self, name: str, tenant: str | None = None) -> None:
        """Refuse what :meth:`answer` would refuse.

        Raises:
            RefusedError: see there.
        """
        with self._lock:
            self._waiting(name, tenant)

    def _waiting(self, name: str, tenant: str | None) -> Escalation:
        one = self._open.get(name)
        if one is None or (tenant is not None and one.tenant != tenant):
            raise RefusedError(404, f"no escalation {name!r} waits: it was answered, or its time is over", code="escalation_not_found")  # fmt: skip
        if one.answered:
            raise RefusedError(409, f"escalation {name!r} was {one.answered} by {one.by}", code="answered")
        return one
