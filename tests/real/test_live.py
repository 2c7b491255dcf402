"""Live watching on the bundled model: chat, monitor, calibrate, detect, as a user runs them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from affectscope.concepts.episodes import benign
from affectscope.concepts.neutral import Message
from affectscope.engines.base import Request, Sampling
from affectscope.engines.transformers import TransformersEngine
from affectscope.models.chat import tokenize
from affectscope.monitoring.monitor import monitor
from affectscope.monitoring.store import Store
from affectscope.vectors.artefact import load_vectors

pytestmark = pytest.mark.real
COMMAND = str(Path(sys.executable).with_name("affectscope"))


@pytest.fixture(scope="module")
def vectors_path(real_audit):
    return real_audit / "model.vectors.safetensors"


def run(*args, cwd, data=None):
    return subprocess.run(
        [COMMAND, *map(str, args)], capture_output=True, cwd=cwd, input=data, timeout=300, check=False, env={**os.environ, "COLUMNS": "80"}
    )  # fmt: skip


@pytest.fixture(scope="module")
def calibrated(vectors_path, tmp_path_factory):
    folder = tmp_path_factory.mktemp("live")
    rows = [
        {"messages": [{"role": m.role, "content": m.content} for m in o.messages], **o.tags} for o in benign()[:110]
    ]
    (folder / "benign.jsonl").write_text("\n".join(map(json.dumps, rows)))
    made = run(
        "calibrate", vectors_path, "--benign", "benign.jsonl", "--alpha", "0.1", "--max-tokens", "8", "--json", cwd=folder
    )  # fmt: skip
    assert made.returncode == 0, made.stderr.decode()
    return folder, json.loads(made.stdout)


def test_a_calibration_is_made_and_audited(calibrated):
    _, told = calibrated
    whole = next(part for part in told["audit"] if part["part"] == "all")
    assert whole["episodes"] == 43
    assert whole["low"] <= 0.1
    assert {t["rule"] for t in told["thresholds"]} == {"pressure", "hostility"}


def test_conversations_are_monitored_and_their_traces_kept_without_content(calibrated, vectors_path):
    folder, _ = calibrated
    rows = [{"prompt": "How do I peel a mango?"}, {"prompt": "Name three rivers."}, {"prompt": "Say hello in Dutch."}]
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    command = ("monitor", "--prompts", "prompts.jsonl", "--vectors", vectors_path, "--max-tokens", "8", "--json")
    made = run(*command, "--calibration", "calibration.json", cwd=folder)
    assert made.returncode == 0, made.stderr.decode()
    found = json.loads(made.stdout)
    assert len(found) == 3
    assert all(0 < row["tokens"] <= 8 and row["faults"] == 0 for row in found)
    store = Store.open(folder / "traces")
    listed = store.list()
    assert len(listed) == 3
    trace = store.load(listed[0].id)
    store.close()
    assert trace.texts is None
    assert trace.tokens is None
    assert trace.z.shape == (2, len(trace), 171)
    assert trace.settings["sampling"]["max_tokens"] == 8
    assert len(trace.settings["calibration"]) == 64


def test_a_chat_answers_colours_saves_and_ends(calibrated, vectors_path):
    folder, _ = calibrated
    lines = "Hello there\nAnd again?\n/emotion calm\n/emotion clam\n/top\n/layer 99\n/save reply.json\n/save reply.html\n/nonsense\n/quit\n"
    made = run(
        "chat", "--vectors", vectors_path, "--calibration", "calibration.json", "--max-tokens", "8", "--store", "kept", cwd=folder,
        data=lines.encode(),
    )  # fmt: skip
    out = made.stdout.decode()
    assert made.returncode == 0, made.stderr.decode()
    assert "coloured by calm" in out
    assert "clam" in out
    assert "up " in out
    assert "99" in out
    saved = json.loads((folder / "reply.json").read_text())
    assert [m["role"] for m in saved["messages"]] == ["user", "assistant"] * 2
    assert "affect-trace" in (folder / "reply.html").read_text()
    with Store.open(folder / "kept") as store:
        second, first = (store.load(row.id) for row in store.list())
    assert first.texts is None
    assert [t.tags["turn"] for t in (first, second)] == ["1", "2"]
    assert first.tags["conversation"] == second.tags["conversation"]
    assert second.positions[0] == len(first)  # the second turn goes on where the first stood
    assert second.generated.sum() <= 8
    # How long the two replies are, and so whether the eight tokens are spent, differs from processor to processor.
    spent = first.generated.sum() + second.generated.sum() >= 8
    assert ("promise covers are spent" in " ".join(out.split())) == spent


def test_greedy_tokens_in_float32_are_those_of_generate():
    from affectscope.models.load import load

    model = load(dtype="float32")
    engine = TransformersEngine(model)
    for text in ("Name a colour.", "Write a short line about the sea.", "What is 12 times 3?"):
        messages = (Message("user", text),)
        ids = torch.tensor([tokenize(model, messages, reply=True).ids])
        with torch.inference_mode():
            out = model.network.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=24)
        generation = engine.generate(Request(messages, Sampling(temperature=0, max_tokens=24)))
        list(generation)
        assert generation.ids == out[0, ids.shape[1] :].tolist()


def test_logits_are_the_same_to_the_bit_with_and_without_the_monitor(real_model, vectors_path):
    made = monitor(load_vectors(vectors_path))
    found = []
    for read in (None, made.read):
        generation = TransformersEngine(real_model, read).generate(
            Request((Message("user", "Tell me about tides."),), Sampling(temperature=0, max_tokens=8))
        )
        logits = []
        for _ in generation:
            if generation.episode.logits is not None:
                logits.append(generation.episode.logits.clone())
        found.append(torch.stack(logits))
    assert torch.equal(*found)


def test_characters_of_several_tokens_come_whole(real_model):
    engine = TransformersEngine(real_model)
    text = "Grüße aus 北京 🙂!"
    steps = list(engine.generate(Request(text, Sampling(temperature=0, max_tokens=1))))
    assert "".join(s.text for s in steps if not s.generated) == text
    assert all("\ufffd" not in s.text for s in steps if not s.generated)
    assert np.diff([s.position for s in steps]).tolist() == [1] * (len(steps) - 1)
