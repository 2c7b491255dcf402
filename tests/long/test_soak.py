"""An hour's worth of tokens in minutes: the server's memory stays where it was, and every reply leaves its trace."""

import gc
import threading
import time
from pathlib import Path

import httpx
from tests.guarding.conftest import guard_calibration  # noqa: F401
from tests.server.conftest import start  # noqa: F401

from affectscope.server.state import Limits

HOUR = 72_000
"""Tokens: twenty a second."""
STREAMS, EACH = 8, 48


def resident():
    """Bytes of memory that this process holds."""
    gc.collect()
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmRSS"))
    return 1024 * int(line.split()[1])


def test_an_hours_worth_of_tokens_leaves_memory_flat_and_every_trace(start):  # noqa: F811
    server = start(limits=Limits(longest=64, drain=5, talks=32), slots=STREAMS)
    headers = {"Authorization": f"Bearer {server.keys['user']}"}
    counted, told, lock = [0], [0], threading.Lock()

    def client(number):
        with httpx.Client(headers=headers, timeout=60) as http:
            turn = 0
            while counted[0] < HOUR:
                turn += 1
                # Most are alone, some go on with a session that many turns share, and some leave in the middle.
                affect = {"session": f"s{number}-{turn // 20}", "concepts": ["calm"]} if turn % 3 == 0 else {}
                body = {"model": "planted", "messages": [{"role": "user", "content": f"w{turn % 9} w2 w3"}], "max_tokens": EACH, "stream": True, "stream_options": {"include_usage": True}}  # fmt: skip
                with http.stream("POST", f"{server.url}/v1/chat/completions", json=body | ({"affect": affect} if affect else {})) as answer:  # fmt: skip
                    assert answer.status_code == 200, answer.read()
                    leaves = turn % 17 == 0
                    for place, _ in enumerate(answer.iter_lines()):
                        if leaves and place > 10:
                            break
                with lock:
                    counted[0] += EACH
                    told[0] += not leaves

    def onlooker():
        with httpx.stream("GET", f"{server.url}/v1/affect/live", headers=headers, timeout=60) as answer:
            for _ in answer.iter_lines():
                if counted[0] >= HOUR:
                    return

    threads = [threading.Thread(target=client, args=(i,)) for i in range(STREAMS)] + [threading.Thread(target=onlooker)]
    for thread in threads:
        thread.start()
    sizes = []
    while any(thread.is_alive() for thread in threads[:-1]):
        if counted[0] > HOUR * (len(sizes) + 1) / 12:
            sizes.append(resident())
        time.sleep(0.1)
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    settled = sizes[3]  # caches and pools are full by then
    assert max(sizes[3:]) < settled * 1.05 + 16 * 2**20, [size >> 20 for size in sizes]
    kept = len(server.store.list())
    assert kept >= told[0]
    until = time.monotonic() + 10
    while (server.state.live or server.state.admission.busy) and time.monotonic() < until:
        time.sleep(0.05)  # whoever left in the middle is noticed at the next token
    assert (server.state.live, server.state.admission.busy) == (0, 0)
