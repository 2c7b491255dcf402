"""Parts by themselves: turns in the queue, questions for people, stop strings, floors, and replies in threads."""

import asyncio
import threading
import time

import pytest

from affectscope.guarding.policy import load_policy
from affectscope.guarding.session import Question
from affectscope.server.admission import Admission
from affectscope.server.deltas import Stops
from affectscope.server.errors import RefusedError
from affectscope.server.floor import retracts, weaker
from affectscope.server.inbox import Inbox
from affectscope.server.replies import ROOM, Reply
from tests.guarding.test_policy import small


def test_places_go_to_keys_in_turn():
    async def run():
        admission, order = Admission(1, 10), []

        async def one(who, ticket):
            async with ticket:
                order.append(who)
                await asyncio.sleep(0)

        (first,) = admission.join("a")
        waiting = [("a", t) for t in admission.join("a", 3)] + [("b", t) for t in admission.join("b", 2)]
        tasks = [asyncio.create_task(one(*pair)) for pair in waiting]
        async with first:
            await asyncio.sleep(0.01)
            assert (admission.busy, admission.queued) == (1, 5)
        await asyncio.gather(*tasks)
        assert order == ["a", "b", "a", "b", "a"]
        assert (admission.busy, admission.queued) == (0, 0)

    asyncio.run(run())


def test_a_full_queue_is_told_with_when_to_come_again_and_who_leaves_makes_room():
    async def run():
        admission = Admission(2, 2)
        tickets = admission.join("a", 4)
        with pytest.raises(RefusedError) as refused:
            admission.join("b")
        assert refused.value.status == 429
        assert int(refused.value.headers["Retry-After"]) >= 1
        waiting = asyncio.create_task(tickets[3].__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert admission.queued == 1
        admission.join("b")
        for ticket in (*tickets, *tickets):
            ticket.give_back()
        assert (admission.busy, admission.queued) == (1, 0)
        admission.closed = True
        with pytest.raises(RefusedError, match="shutting down"):
            admission.join("b")

    asyncio.run(run())


def asked(inbox, seconds=5, left=lambda: False):
    found = []
    thread = threading.Thread(
        target=lambda: found.append(inbox.ask("t", "s", Question("r", "why", seconds, "said"), left))
    )
    thread.start()
    while not inbox.list() and thread.is_alive():
        time.sleep(0.01)
    return thread, found


def test_a_question_waits_for_a_person_and_one_answer_counts():
    inbox = Inbox()
    thread, found = asked(inbox)
    (one,) = inbox.list("t")
    assert inbox.list("other") == ()
    with pytest.raises(RefusedError) as refused:
        inbox.answer(one.id, "approved", "mallory", "other")
    assert refused.value.status == 404
    with pytest.raises(RefusedError):
        inbox.answer(one.id, "maybe", "ann", "t")
    inbox.answer(one.id, "approved", "ann", "t")
    with pytest.raises(RefusedError):
        inbox.answer(one.id, "denied", "bob", "t")
    thread.join(5)
    assert found == ["approved"]
    assert (one.answered, one.by) == ("approved", "ann")
    assert inbox.list() == ()


def test_no_answer_is_none_and_so_is_one_who_left():
    inbox = Inbox()
    thread, found = asked(inbox, seconds=0)
    thread.join(5)
    assert found == [None]
    gone = threading.Event()
    thread, found = asked(inbox, seconds=60, left=gone.is_set)
    gone.set()
    thread.join(5)
    assert found == [None]


@pytest.mark.parametrize("size", [1, 2, 3, 50])
@pytest.mark.parametrize("stops", [("END",), ("xEND", "END"), ("EE", "ND")])
def test_stop_strings_are_found_in_pieces_of_any_size(size, stops):
    text = "abc Ex ENx xEND tail END"
    cut = min(at for stop in stops if (at := text.find(stop)) >= 0)
    found = Stops(stops)
    assert "".join(found.push(text[i : i + size]) for i in range(0, len(text), size)) + found.flush() == text[:cut]


def test_what_only_begins_as_a_stop_string_is_let_go():
    found = Stops(("END",))
    assert (found.push("aE"), found.push("N"), found.push("O"), found.push("EN"), found.flush()) == ("a", "", "ENO", "", "EN")  # fmt: skip


def test_a_stricter_policy_may_be_picked_and_a_milder_one_not():
    observe, cautious, strict = (load_policy(name) for name in ("observe", "cautious", "strict"))
    assert weaker(cautious, cautious) == weaker(strict, strict) == ""
    assert weaker(cautious, observe) == ""
    assert "milder" in weaker(observe, cautious)
    assert retracts(strict)
    assert not retracts(cautious)
    floor = small()
    assert "lacks the rule" in weaker(small(rules__up__concepts={"angry": 1}), floor)
    assert "milder 32 tokens after" in weaker(small(rules__up__ladder=[{"action": "log", "patience": 500}, {"action": "steer", "concept": "calm", "s": 0.05}, "stop"]), floor)  # fmt: skip
    assert "come later" in weaker(small(rules__up__dwell=9), floor)
    assert "end sooner" in weaker(small(rules__up__off_level=2.0), floor)
    assert "may act 9 times" in weaker(small(limits={"budget": 9}), floor)
    assert "waits 99 s" in weaker(small(heartbeat=99), floor)
    assert "holds back" in weaker(small(limits={"hold_back": 0}), floor)
    assert "answers" in weaker(small(on_fault="degrade"), floor)


def test_a_slow_reader_loses_nothing_and_one_that_leaves_ends_the_work():
    ended = []

    async def run():
        reply = Reply(lambda _each: iter(range(3 * ROOM)), ended.append, "slow")
        got = []
        async for item in reply.items():
            got.append(item)
            if len(got) == 3:
                await asyncio.sleep(0.3)  # the queue is full by then
        assert got == list(range(3 * ROOM))
        await reply.ended()

        def forever(each):
            while True:
                each(None)
                yield 1

        reply = Reply(forever, ended.append, "left")
        async for _ in reply.items():
            break
        reply.leave()
        await asyncio.wait_for(reply.ended(), 5)

        def breaks(_each):
            yield 1
            raise ValueError("broken")

        with pytest.raises(ValueError, match="broken"):
            async for _ in Reply(breaks, ended.append, "breaks").items():
                pass

    asyncio.run(run())
    assert ended[0] is None
    assert [type(e).__name__ for e in ended[1:]] == ["LeftError", "ValueError"]
