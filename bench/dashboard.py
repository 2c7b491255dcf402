"""The wall under load: frames a second in Chromium while 1,000 live conversations change ten times a second, and how soon it is there.

The server, its hub, the stream and the page are the real ones. The readings are drawn at random, for no model on this machine
writes ten thousand tokens a second; each goes in as a reply's thread would put it in. Server, load and browser share the machine.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn

from affectscope.engines.base import TokenStep
from affectscope.guarding.policy import load_policy
from affectscope.models.load import load
from affectscope.monitoring.calibration import load_calibration
from affectscope.monitoring.monitor import Reading
from affectscope.server.api_keys import ApiKeys, add_key
from affectscope.server.app import build
from affectscope.server.hub import Live
from affectscope.server.served import Served
from affectscope.server.state import State
from affectscope.server.talks import WatchedTalk
from affectscope.vectors.artefact import load_vectors
from common import arguments, report

SESSIONS, UPDATES, FRAMES, PAINT, WEIGHT = 1000, 10, 50.0, 1000.0, 400_000
FLAGS = ("--no-sandbox", "--disable-background-networking", "--disable-component-update", "--no-first-run")
COUNT = """(seconds) => new Promise((done) => {
  const times = [];
  const each = (now) => { times.push(now); now - times[0] < 1000 * seconds ? requestAnimationFrame(each) : done(times); };
  requestAnimationFrame(each);
})"""
CHANGES = """(seconds) => new Promise((done) => {
  let count = 0;
  const seen = new MutationObserver(() => { count += 1; });
  seen.observe(document.querySelector(".tile .under b"), { characterData: true, childList: true, subtree: true });
  setTimeout(() => { seen.disconnect(); done(count / seconds); }, 1000 * seconds);
})"""
"""How often a second one tile shows something new."""
PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


def main() -> None:
    options = arguments(__doc__ or "", calibration="calibration.json", vectors="model.vectors.safetensors")
    seconds, rounds = (5, 3) if options.quick else (10, options.rounds or 9)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        key, state, url = _served(stack, folder, options)
        stop, sent = threading.Event(), [0]
        feed = threading.Thread(target=_feed, args=(state, _lives(state), stop, sent), daemon=True)
        found = _look(stack, url, key, seconds, rounds, feed, sent)
        stop.set()
        feed.join()
    frames = np.array(found["frames"])
    low, high = np.percentile(frames, [2.5, 97.5])
    claim = f"dashboard, {SESSIONS} live sessions: frames a second over {FRAMES:.0f}"
    ratio = (float(np.median(frames)) / FRAMES, float(low) / FRAMES, float(high) / FRAMES)
    report(claim, ratio, 1.0, "none", rounds=rounds, **{k: v for k, v in found.items() if k != "frames"})


def _served(stack: ExitStack, folder: Path, options: Any) -> tuple[str, State, str]:
    key = add_key(folder / "keys.json", "bench", ["admin"])
    limits = load_calibration(Path(options.calibration))
    served = Served(load(), load_vectors(Path(options.vectors)), limits, [load_policy("cautious")], canaries=False)
    state = State(served, ApiKeys(folder / "keys.json"))
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(build(state), log_level="error", access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    stack.callback(thread.join)
    stack.callback(setattr, server, "should_exit", True)
    return key, state, f"http://127.0.0.1:{listener.getsockname()[1]}"


def _lives(state: State) -> list[Live]:
    monitor = state.served.monitor
    assert monitor is not None
    return [
        state.hub.open("default", f"agent-{i:04}", "cautious", WatchedTalk(state.served.engine, monitor, f"{i}", {}, {}, False))
        for i in range(SESSIONS)
    ]  # fmt: skip


def _feed(state: State, lives: list[Live], stop: threading.Event, sent: list[int]) -> None:
    """Every conversation reads a token ten times a second; its rule wanders towards its threshold and back."""
    rng, monitor = np.random.default_rng(0), state.served.monitor
    assert monitor is not None
    rules = [(name, next(iter(limits.items()))) for name, limits in monitor.thresholds.items()]
    rows = rng.integers(-24, 25, (64, len(monitor.read.probes), len(monitor.read.concepts))).astype(np.int8)
    step = TokenStep(
        episode="",
        token=0,
        text="",
        position=0,
        role="assistant",
        phase="answer",
        index=0,
        generated=True,
        scores={},
        norms={},
    )
    readings = [Reading(step, row) for row in rows]
    for live in lives:
        state.hub.changed(live, "running")
    levels = rng.random(len(lives)) * 0.6
    began = time.monotonic()
    for tick in range(10**9):
        levels = np.clip(levels + rng.normal(0, 0.04, len(lives)), 0, 1.2)
        for i, live in enumerate(lives):
            name, (stratum, (limit, _)) = rules[i % len(rules)]
            assert live.talk.watch is not None
            live.talk.watch.levels[name] = (stratum, float(levels[i]) * limit)
            state.hub.read(live, readings[(i + tick) % 64])
        sent[0] += len(lives)
        if stop.wait(max(0.0, began + (tick + 1) / UPDATES - time.monotonic())):
            return


def _look(
    stack: ExitStack, url: str, key: str, seconds: int, rounds: int, feed: threading.Thread, sent: list[int]
) -> dict[str, Any]:
    from playwright.sync_api import sync_playwright

    browser = stack.enter_context(sync_playwright()).chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))  # fmt: skip
    page = browser.new_page(viewport={"width": 1600, "height": 1000})
    page.goto(f"{url}/ui/login")
    page.fill("#key", key)
    page.click("button[type=submit]")
    page.wait_for_selector(".tile")
    weights: list[int] = []
    page.on("response", lambda r: weights.append(len(r.body())) if "/ui" in r.url else None)
    paints = []
    for _ in range(rounds):
        page.reload()
        page.wait_for_selector(".tile")
        paints.append(page.evaluate(PAINTED))
    feed.start()
    time.sleep(2)
    frames, worst, told, began = [], [], sent[0], time.monotonic()
    for _ in range(rounds):
        gaps = np.diff(page.evaluate(COUNT, seconds))
        frames.append(1000 / float(np.mean(gaps)))
        worst.append(float(np.percentile(gaps, 99)))
    rate = (sent[0] - told) / (time.monotonic() - began)
    tiles, changes = page.locator(".tile").count(), page.evaluate(CHANGES, 3)
    if not (rate and changes):
        sys.exit("nothing was fed, or the page showed none of it: the frames above would mean nothing")
    browser.close()
    weight = sum(weights) // rounds
    return {
        "frames": frames,
        "frame_ms_p99": round(float(np.median(worst)), 1),
        "updates_per_second": round(rate),
        "tiles_drawn": tiles,
        "tile_changes_per_second": round(changes, 1),
        "first_paint_ms": round(float(np.median(paints))),
        "first_paint_ms_most": round(max(paints)),
        "page_bytes": weight,
        "cores": os.cpu_count(),
    }


if __name__ == "__main__":
    main()
