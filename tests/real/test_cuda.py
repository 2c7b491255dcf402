"""The same figures on a GPU as on the processor: readings, doses, generation, vectors, the guard. Skipped where there is none."""

import numpy as np
import pytest
import torch
from tests.conftest import ARCHITECTURES, WORDS, network_of, plain_neutral, planted_corpus
from tests.engines.test_engine import GREEDY, PROMPTS, readout_for, steps_of
from tests.guarding.test_policy import small

from affectscope.concepts.episodes import Opening
from affectscope.concepts.neutral import Message
from affectscope.engines.base import Request, Sampling, Steering
from affectscope.engines.transformers import TransformersEngine
from affectscope.errors import AffectscopeError
from affectscope.guarding.guard import guard
from affectscope.guarding.verify import verify
from affectscope.models.load import wrap
from affectscope.models.neurons import Ablation, ablated
from affectscope.models.predictions import continuation_logprobs, last_logits
from affectscope.models.residuals import pooled, visit
from affectscope.models.steering import Dose
from affectscope.monitoring.calibrate import calibrate
from affectscope.monitoring.monitor import monitor
from affectscope.monitoring.scan import scan
from affectscope.monitoring.sweep import readings
from affectscope.vectors.extract import extract, read_corpus

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")

TEXTS = [[9, 10, 11, 12, 13, 14], [20, 21, 22], [30, 31, 32, 33]]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def both(request, tokenizer):
    """One network twice: on the processor and on the GPU."""
    network = network_of(request.param)
    on_gpu = network_of(request.param).cuda()
    return wrap(network, tokenizer, name="here"), wrap(on_gpu, tokenizer, name="there")


def close(found, expected):
    found, expected = (torch.as_tensor(x).cpu().float() for x in (found, expected))
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3 * float(expected.abs().max()))


def residuals(model, doses):
    seen = []
    visit(model, TEXTS, [0, 1], lambda _place, h: seen.append(h.clone()), doses=doses)
    return seen


def test_residuals_with_and_without_a_dose(both):
    for doses in ((), (Dose(0, 2, 4, {0: torch.full((48,), 0.5)}),)):
        here, there = (residuals(model, doses) for model in both)
        for layer in (0, 1):
            close(there[layer], here[layer])


def test_means_predictions_and_ablations(both):
    means, logits, likely, cut = [], [], [], []
    neurons = {1: (torch.tensor([3, 40]), torch.tensor([0.0, 0.5]))}
    for model in both:
        means.append(torch.cat([batch.means for batch in pooled(model, TEXTS, [1], skip=1)]))
        logits.append(last_logits(model, TEXTS, [5, 6, 7]))
        likely.append(continuation_logprobs(model, TEXTS, [1, 1, 2]))
        if not getattr(model.network.config, "num_experts", 0):
            with ablated(model, TEXTS[:1], [Ablation(0, 2, 5, neurons)]):
                visit(model, TEXTS[:1], [1], lambda _place, h: cut.append(h.clone()))
    for here, there in (means, logits, likely, *([cut] if cut else [])):
        close(there, here)


def test_the_engine_reads_and_says_the_same(both):
    if not both[0].packed:
        for model in both:
            with pytest.raises(AffectscopeError, match="cannot be generated with here"):
                TransformersEngine(model)
        return
    found = []
    for model in both:
        push = Steering({1: np.full(model.anatomy.d_model, 0.4, np.float32)}, "push")
        requests = [Request(p, GREEDY, steering=push if i == 1 else None) for i, p in enumerate(PROMPTS)]
        engine = TransformersEngine(model, readout_for(model), slots=3)
        found.append(steps_of(engine, *requests)[0])
    for here, there in zip(*found, strict=True):
        assert [s.token for s in there] == [s.token for s in here]
        close(np.stack([s.scores[1] for s in there]), np.stack([s.scores[1] for s in here]))


@pytest.fixture(scope="module")
def planted_there(planted, tokenizer):
    network = network_of("llama", hidden_size=planted[0].anatomy.d_model)
    network.load_state_dict(planted[0].network.state_dict())
    return wrap(network.cuda(), tokenizer, name="planted")


def test_vectors_and_scans(planted, planted_there, planted_vectors):
    made = extract(read_corpus(planted_there, planted_corpus(), [0, 1, 2], neutral=plain_neutral()), 1, neutral=plain_neutral())  # fmt: skip
    cosine = (made.vectors * planted_vectors.vectors).sum(-1)
    assert cosine.min() > 0.999
    text = " ".join(WORDS[:30])
    close(scan(planted_there, planted_vectors, text).z, scan(planted[0], planted_vectors, text).z)
    ids = [planted_there.encode(text)]
    close(readings(planted_there, planted_vectors, ids)[0][0], readings(planted[0], planted_vectors, ids)[0][0])


def test_calibration_chat_and_evidence(planted_there, planted_vectors, tmp_path, monkeypatch):
    monkeypatch.setenv("AFFECTSCOPE_KEYS", str(tmp_path / "keys"))
    rng, how = np.random.default_rng(0), Sampling(temperature=1.0, max_tokens=6, seed=0)
    openings = [Opening((Message("user", " ".join(map(str, rng.choice(WORDS, 12)))),), {}) for _ in range(132)]
    policy = small(rules__up__ladder=["resample", {"action": "steer", "concept": "calm", "s": 0.05}, "stop"])
    watching = monitor(planted_vectors, rules=policy.monitor_rules())
    limits = calibrate(TransformersEngine(planted_there, watching.read, slots=16), planted_vectors, watching, openings, alpha=0.05, sampling=how)  # fmt: skip
    low = limits.model_copy(update={"thresholds": tuple(t.model_copy(update={"value": -50.0}) for t in limits.thresholds)})  # fmt: skip
    path = tmp_path / "evidence.jsonl"
    with guard(planted_there, planted_vectors, policy, calibration=low, evidence=path, sampling=how) as guarded:
        reply = guarded.chat(" ".join(WORDS[:12]))
    assert reply.decisions
    found = verify(path)
    assert found.ok, found.cause
