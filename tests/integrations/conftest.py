"""The bundled model with small made-up vectors, calibrations that alarm at once or never, and no way out to a network."""

from __future__ import annotations

import gc
import os
import socket
from dataclasses import replace

import numpy as np
import pytest

NAME = "affectscope/smollm2-135m"
RUNS = []
"""Runs of Inspect in this test."""
CONCEPTS = ("angry", "calm", "desperate", "hostile", "panicked", "trapped", "vindictive")
LAYER = 19
EARLY, NEVER = -100.0, 1e6
"""Thresholds: every token's statistic lies above the one, none above the other."""
STOPS = """
format: affectscope/policy@1
name: stops
rules:
  pressure:
    concepts: {desperate: 1, calm: -1}
    detector: level
    ladder: [{action: hold_tool, patience: 1}, stop]
    window: 8
"""
PLAIN = "The tide tables list two high waters on most days, and the ferry leaves at nine from the northern pier."


def pytest_collection_modifyitems(items):
    """Inspect leaves streams unclosed when a run ends; anyio says so when they are collected, here or anywhere later."""
    for item in items:
        if "tests/integrations" in item.path.as_posix():
            item.add_marker(pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject:ResourceWarning"))


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    """Nothing but this machine is reached: an attempt fails, and the test with it even if the attempt was forgiven."""
    tried = []
    connect, connect_ex, resolve = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def local(sock, address):
        return sock.family == socket.AF_UNIX or str(address[0]) in ("127.0.0.1", "::1", "localhost")

    def checked(call):
        def connecting(sock, address):
            if not local(sock, address):
                tried.append(address)
                raise OSError("no network in tests")
            return call(sock, address)

        return connecting

    def resolving(host, *args, **more):
        if host not in (None, "127.0.0.1", "::1", "localhost", b"localhost"):
            tried.append(host)
            raise socket.gaierror("no network in tests")
        return resolve(host, *args, **more)

    monkeypatch.setattr(socket.socket, "connect", checked(connect))
    monkeypatch.setattr(socket.socket, "connect_ex", checked(connect_ex))
    monkeypatch.setattr(socket, "getaddrinfo", resolving)
    monkeypatch.setenv("INSPECT_LOG_DIR", str(tmp_path / "logs"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)  # Inspect reads .env from where it runs
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
    if RUNS:
        RUNS.clear()
        gc.collect()  # while the filter above holds
    assert tried == []


@pytest.fixture(scope="session")
def loaded(real_model, vectors):
    """The session's model, where the provider looks for it, and its engines, which are made once."""
    from affectscope.integrations import inspect_setup
    from affectscope.integrations.inspect_conversations import Loaded
    from affectscope.monitoring.monitor import monitor

    made = Loaded(real_model)
    inspect_setup._LOADED["smollm2-135m", real_model.identity["dtype"], ""] = made
    engines = [made.engine(monitor(vectors, rules=()), slots) for slots in (1, inspect_setup.SLOTS)]
    yield made
    del engines


@pytest.fixture(scope="session")
def vectors(real_model):
    """Random directions, standardised on one plain text: they mean nothing, and are read as any others."""
    import torch

    from affectscope.models.chat import PHASES, ROLES
    from affectscope.vectors.artefact import POSITION_BINS, PROBES, ConceptVectors

    width, rng = real_model.anatomy.d_model, np.random.default_rng(0)
    rows = rng.standard_normal((3, 1, len(CONCEPTS), width)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=-1, keepdims=True)
    cells = (len(PROBES), 1, len(ROLES), len(PHASES), len(POSITION_BINS), len(CONCEPTS))
    made = ConceptVectors(
        concepts=CONCEPTS, layers=(LAYER,), read_layer=LAYER, vectors=rows[0], readers=rows[1], readers_heldout=rows[2],
        mean_norm=np.ones(1, np.float32), grand_mean=np.zeros((1, width), np.float32), read_mean=np.zeros((1, width), np.float32),
        baseline_mean=np.zeros(cells, np.float32), baseline_std=np.ones(cells, np.float32),
        baseline_count=np.ones(cells[2:5], np.int64),
        model=real_model.identity | {"depth": real_model.anatomy.depth}, recipe={}, corpus={"author": "made up"},
    )  # fmt: skip
    with torch.inference_mode():
        ids = torch.tensor([real_model.encode(PLAIN)])
        states = real_model.network(ids, output_hidden_states=True).hidden_states[LAYER + 1][0, 1:].float().numpy()
    scores = np.einsum("td,pcd->tpc", states, rows[:, 0])
    mean, std = (a.reshape(len(PROBES), 1, 1, 1, 1, -1) for a in (scores.mean(0), scores.std(0)))
    norm = np.linalg.norm(states, axis=-1).mean(keepdims=True).astype(np.float32)
    return replace(
        made, mean_norm=norm, baseline_mean=made.baseline_mean + mean, baseline_std=made.baseline_std * std
    )  # fmt: skip


@pytest.fixture(scope="session")
def files(vectors, tmp_path_factory, loaded):
    """``files["vectors"]``, and the calibrations of a policy's rules ``early`` and ``never``."""
    folder = tmp_path_factory.mktemp("inspect")
    found = {"vectors": str(vectors.save(folder / "v.safetensors"))}
    for name, threshold in (("early", EARLY), ("never", NEVER)):
        calibration(vectors, "observe", threshold).save(folder / f"{name}.json")
        found[name] = str(folder / f"{name}.json")
    (folder / "stops.yaml").write_text(STOPS)
    calibration(vectors, folder / "stops.yaml", EARLY).save(folder / "stops.json")
    return found | {"stops": str(folder / "stops.json"), "policy": str(folder / "stops.yaml")}


def calibration(vectors, policy, threshold, rules=None):
    """One that no episode was run for: every rule has ``threshold``."""
    from affectscope.engines.base import Sampling
    from affectscope.guarding.policy import load_policy
    from affectscope.monitoring.calibration import Calibration, EpisodeSet, Threshold, spec_of
    from affectscope.monitoring.monitor import monitor
    from affectscope.monitoring.recording import settings_of

    rules = tuple(rules or load_policy(policy).monitor_rules())
    watching = monitor(vectors, rules=rules)
    sampling = Sampling(temperature=0, max_tokens=32)
    return Calibration(
        made="2026-01-01T00:00:00+00:00", affectscope="test", model=dict(vectors.model), vectors=vectors.fingerprint,
        layer=LAYER, concepts=watching.read.concepts, probes=watching.read.probes, alpha=0.01, delta=0.1, promise="average",
        strata="none", sampling=settings_of(vectors, LAYER, sampling)["sampling"],
        rules=tuple(spec_of(rule) for rule in rules),
        thresholds=tuple(Threshold(rule=r.name, stratum="all", episodes=9, alpha=0.01, value=threshold, average=threshold, this=None) for r in rules),
        sets={"calibration": EpisodeSet(episodes=9, hash="0")}, audit=(), drift={}, reference={}, standard_source="made up",
        standard_mean=watching.standard.mean.tolist(), standard_std=watching.standard.std.tolist(),
    )  # fmt: skip


@pytest.fixture
def provider(files):
    """``provider(calibration="early", ...)``: the model with these arguments, greedy unless told otherwise."""
    from inspect_ai.model import GenerateConfig, get_model

    def make(calibration="", **more):
        given = {"vectors": files["vectors"], "max_tokens": 8, **more}
        if calibration:
            given["calibration"] = files[calibration]
        return get_model(NAME, config=GenerateConfig(temperature=0), memoize=False, **given)

    return make


@pytest.fixture
def scripted(monkeypatch):
    """``scripted("first", "second")``: what the model is taken to have said; the tokens that were read are its own."""
    from affectscope.integrations.inspect_conversations import Talk

    def say(*replies):
        left, real = list(replies), Talk._watched

        def watched(self, messages, sampling, tell):
            _, finished = real(self, messages, sampling, tell)
            return (left.pop(0), "end") if left else ("done", finished)

        monkeypatch.setattr(Talk, "_watched", watched)

    return say


def ran(task, model, **more):
    """The one log of a task, read back from its file."""
    from inspect_ai import eval as run
    from inspect_ai.log import read_eval_log

    RUNS.append(task)
    (log,) = run(task, model=model, display="none", log_level="warning", **more)
    return read_eval_log(log.location)
