"""The engine on tiny random networks, against transformers' own generate."""

import numpy as np
import pytest
import torch
from tests.conftest import ARCHITECTURES, network_of

from affectscope.concepts.neutral import Message
from affectscope.engines.base import Engine, Generation, Request, Sampling, Steering
from affectscope.engines.readout import Readout
from affectscope.engines.transformers import TransformersEngine
from affectscope.errors import AffectscopeError
from affectscope.models.residuals import visit

GREEDY = Sampling(temperature=0, max_tokens=24)
PROMPTS = ["w1 w2 w3", "w9", "w4 w5 w6 w7 w8 w9 w10 w11 w12 w13 w14 w15 w16", "m1 m2 w30"]


def readout_for(model, layers=(1,), concepts=3, probes=("readers", "readers_heldout")):
    rng = np.random.default_rng(0)
    shape = (len(layers), model.anatomy.d_model, len(probes) * concepts)
    return Readout(
        layers,
        probes,
        tuple(f"c{i}" for i in range(concepts)),
        rng.standard_normal(shape).astype(np.float32),
        rng.standard_normal((len(layers), shape[2])).astype(np.float32),
    )


def reference(model, prompt, count):
    ids = torch.tensor([model.encode(prompt)])
    with torch.inference_mode():
        out = model.network.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=count)
    return out[0, ids.shape[1] :].tolist()


def steps_of(engine, *requests):
    """Steps and generations of requests that run together, in their order."""
    found, generations, ended = {r.id: [] for r in requests}, {}, []
    for generation, step in engine.stream(requests):
        generations[generation.id] = generation
        if step is None:
            ended.append(generation.id)
        else:
            assert generation.id not in ended
            found[generation.id].append(step)
    assert sorted(ended) == sorted(found)
    return [found[r.id] for r in requests], [generations[r.id] for r in requests]


@pytest.mark.parametrize("architecture", [a for a in ARCHITECTURES if a != "gemma2"])
def test_greedy_tokens_are_those_of_generate(tiny, architecture):
    model = tiny(architecture)
    engine = TransformersEngine(model)
    for prompt in PROMPTS:
        generation = engine.generate(Request(prompt, GREEDY))
        steps = list(generation)
        assert generation.ids == reference(model, prompt, 24)
        read = [s.token for s in steps if s.generated]
        assert read == (generation.ids if generation.finished == "length" else generation.ids[:-1])
        assert [s.position for s in steps] == list(range(len(steps)))


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "gpt2"])
def test_episodes_of_different_lengths_run_together_as_alone(tiny, architecture):
    model = tiny(architecture)
    engine = TransformersEngine(model, readout_for(model), slots=3)  # the fourth has to wait
    together, generations = steps_of(engine, *(Request(p, GREEDY) for p in PROMPTS))
    for steps, generation, prompt in zip(together, generations, PROMPTS, strict=True):
        assert generation.ids == reference(model, prompt, 24)
        alone = list(engine.generate(Request(prompt, GREEDY)))
        for one, other in zip(steps, alone, strict=True):
            assert one.token == other.token
            np.testing.assert_allclose(one.scores[1], other.scores[1], rtol=1e-3, atol=1e-4)


def test_an_attention_that_cannot_be_replaced_is_refused_in_one_line(tiny):
    with pytest.raises(AffectscopeError, match=r"affectscope\.watch"):
        TransformersEngine(tiny("gemma2"))


def test_scores_are_those_of_a_plain_pass(tiny):
    model = tiny("llama")
    read = readout_for(model, layers=(0, 2))
    steps = list(TransformersEngine(model, read).generate(Request(PROMPTS[2], GREEDY)))
    ids = [s.token for s in steps]
    for place, layer in enumerate(read.layers):
        seen = []
        visit(model, [ids], [layer], lambda _p, h, seen=seen: seen.append(h.float().clone()))
        expected = seen[0].numpy() @ read.weights[place] - read.offsets[place]
        found = np.stack([s.scores[layer].reshape(-1) for s in steps])
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose([s.norms[layer] for s in steps], seen[0].norm(dim=-1).numpy(), rtol=1e-4)


def test_logits_are_the_same_to_the_bit_with_and_without_a_readout(tiny):
    model = tiny("llama")
    found = []
    for read in (None, readout_for(model, layers=(0, 1, 2), concepts=40)):
        engine = TransformersEngine(model, read)
        generation = engine.generate(Request(PROMPTS[0], GREEDY))
        logits = []
        for _ in generation:
            if generation.episode.logits is not None:
                logits.append(generation.episode.logits.clone())
        found.append(torch.stack(logits))
    assert torch.equal(*found)


def test_nothing_is_left_on_the_network(tiny):
    model = tiny("llama")

    def state():
        hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.network.modules()]
        return model.network.config._attn_implementation, hooks

    before = state()
    list(TransformersEngine(model, readout_for(model)).generate(Request(PROMPTS[0], GREEDY)))
    assert state() == before


def test_a_dose_concerns_its_own_episode_from_its_position_on(tiny):
    model = tiny("llama")
    engine = TransformersEngine(model, readout_for(model, layers=(0, 2)))
    push = Steering({1: np.full(model.anatomy.d_model, 3, np.float32)}, "push")
    plain = list(engine.generate(Request(PROMPTS[0], GREEDY)))
    (dosed, beside), _ = steps_of(engine, Request(PROMPTS[0], GREEDY, push), Request(PROMPTS[0], GREEDY))
    assert [s.token for s in beside] == [s.token for s in plain]
    for one, other in zip(dosed[:3], plain[:3], strict=True):
        np.testing.assert_allclose(one.scores[0], other.scores[0], rtol=1e-4, atol=1e-5)  # above the dose
        assert np.abs(one.scores[2] - other.scores[2]).max() > 0.1

    generation = engine.generate(Request(PROMPTS[0], GREEDY))
    steps = [next(generation) for _ in range(10)]
    first = generation.steer(push)
    steps += list(generation)
    assert first == 10
    assert all(np.array_equal(a.scores[2], b.scores[2]) for a, b in zip(steps[:10], plain[:10], strict=True))
    assert np.abs(steps[10].scores[2] - plain[10].scores[2]).max() > 0.1


def test_a_dose_released_leaves_later_tokens_alone(tiny):
    model = tiny("llama")
    engine = TransformersEngine(model, readout_for(model, layers=(1,)))
    push = Steering({2: np.full(model.anatomy.d_model, 3, np.float32)}, "push")  # last block: no later token sees it
    generation = engine.generate(Request(PROMPTS[0], GREEDY))
    [next(generation) for _ in range(5)]
    generation.steer(push)
    next(generation)
    generation.steer(None)
    rest = list(generation)
    ids = model.encode(PROMPTS[0]) + generation.ids
    seen = []
    visit(model, [ids], [1], lambda _p, h: seen.append(h.float().clone()))
    read = engine.read
    expected = seen[0].numpy() @ read.weights[0] - read.offsets[0]
    np.testing.assert_allclose(np.stack([s.scores[1].reshape(-1) for s in rest]), expected[6:], rtol=1e-3, atol=1e-4)


def test_a_fork_goes_on_from_the_same_past(tiny):
    model = tiny("llama")
    engine = TransformersEngine(model, readout_for(model), slots=2)
    generation = engine.generate(Request(PROMPTS[1], GREEDY))
    [next(generation) for _ in range(8)]
    one, two = generation.fork(2)  # a slot for the first; the second is run again
    rest = [s.token for s in generation]
    assert [s.token for s in one] == rest
    assert [s.token for s in two] == rest
    assert one.id != two.id != generation.id


def test_forks_with_seeds_differ_and_repeat(tiny):
    model = tiny("llama")
    engine = TransformersEngine(model)
    generation = engine.generate(Request(PROMPTS[1], Sampling(max_tokens=12, seed=1)))
    [next(generation) for _ in range(4)]
    texts = [[s.token for s in f] for f in generation.fork(3, seeds=[5, 6, 5])]
    assert texts[0] == texts[2] != texts[1]


def test_rewind_takes_back_tokens_and_doses(tiny):
    model = tiny("llama")
    engine = TransformersEngine(model, readout_for(model))
    plain = [s.token for s in engine.generate(Request(PROMPTS[0], GREEDY))]
    generation = engine.generate(Request(PROMPTS[0], GREEDY))
    [next(generation) for _ in range(8)]
    generation.steer(Steering({0: np.full(model.anatomy.d_model, 9, np.float32)}))
    pushed = [next(generation) for _ in range(6)]
    assert [s.token for s in pushed] != plain[8:14]
    generation.rewind(8)
    rest = list(generation)
    assert rest[0].position == 8
    assert [s.token for s in rest] == plain[8:]
    generation.rewind(10)  # also after the end
    assert [s.token for s in generation] == plain[10:]
    with pytest.raises(AffectscopeError, match="cannot be rewound"):
        generation.rewind(1)


def test_seeds_decide_and_company_does_not(tiny):
    model = tiny("llama")
    engine = TransformersEngine(model)
    how = Sampling(max_tokens=20, seed=7, temperature=1.5, top_k=40, top_p=0.95, repetition_penalty=1.1)
    (alone,), _ = steps_of(engine, Request(PROMPTS[0], how))
    (first, _, _), generations = steps_of(engine, *(Request(p, how) for p in PROMPTS[:3]))
    assert [s.token for s in first] == [s.token for s in alone]
    assert generations[0].seed == 7
    other = engine.generate(Request(PROMPTS[0], Sampling(max_tokens=20)))
    again = Sampling(max_tokens=20, seed=other.seed)
    assert [s.token for s in other] == [s.token for s in engine.generate(Request(PROMPTS[0], again))]


def test_stop_strings_end_the_reply_before_themselves(tiny):
    model = tiny("llama")
    engine = TransformersEngine(model)
    generation = engine.generate(Request(PROMPTS[0], GREEDY))
    words = [s.text for s in generation if s.generated]
    word = next(w for w in words[6:] if w)
    stopped = engine.generate(Request(PROMPTS[0], Sampling(temperature=0, max_tokens=24, stop=("never", word))))
    steps = list(stopped)
    assert stopped.finished == "stop"
    assert word not in stopped.text
    assert "".join(words).startswith(stopped.text)
    assert len([s for s in steps if s.generated]) < 24


def test_a_reply_may_be_empty(tiny):
    model = tiny("llama")
    engine = TransformersEngine(model)
    engine._ends = frozenset(range(model.network.config.vocab_size))
    generation = engine.generate(Request("w1 w2", Sampling(max_tokens=4)))
    steps = list(generation)
    assert generation.finished == "end"
    assert generation.text == ""
    assert not any(step.generated for step in steps)


def test_a_cancelled_episode_frees_its_slot(tiny):
    model = tiny("llama")
    engine = TransformersEngine(model, slots=1)
    first, second = (engine.generate(Request(p, GREEDY)) for p in PROMPTS[:2])
    [next(first) for _ in range(4)]
    first.stop("client left")
    assert first.finished == "client left"
    assert [s.token for s in second if s.generated] == reference(model, PROMPTS[1], 24)


def test_a_reader_that_stops_reading_holds_up_nobody(tiny, monkeypatch):
    monkeypatch.setattr("affectscope.engines.transformers.PATIENCE", 0.05)
    model = tiny("llama")
    engine = TransformersEngine(model, readout_for(model), slots=1)
    push = Steering({0: np.full(model.anatomy.d_model, 2, np.float32)})
    slow, quick = engine.generate(Request(PROMPTS[0], GREEDY, push)), engine.generate(Request(PROMPTS[1], GREEDY))
    before = [next(slow) for _ in range(6)]
    assert len(list(quick)) == 1 + 24
    rest = list(slow)  # run again from the start, dose and all
    expected = [s.token for s in TransformersEngine(model).generate(Request(PROMPTS[0], GREEDY, push))]
    assert [s.token for s in before + rest] == expected


def test_roles_and_phases_come_from_the_template(tiny):
    model = tiny("llama")
    engine = TransformersEngine(model)
    messages = (Message("system", "w1 w2"), Message("user", "w3 <|turn|> assistant w4"))
    steps = list(engine.generate(Request(messages, GREEDY)))
    user = [s for s in steps if s.role == "user"]
    assert {s.role for s in steps} == {"template", "system", "user", "assistant"}
    assert all(not s.generated for s in user)
    assert [s.index for s in user] == list(range(len(user)))
    reply = [s for s in steps if s.generated]
    assert {s.role for s in reply} == {"assistant"}
    assert {s.phase for s in reply} == {"answer"}
    assert [s.index for s in reply] == list(range(24))


@pytest.mark.parametrize(
    ("request_", "match"),
    [
        (lambda: Request("   ", GREEDY), "empty"),
        (lambda: Request((), GREEDY), "empty"),
        (lambda: Request("w1 " * 600, GREEDY), "shorten"),
        (lambda: Request("w1 " * 500, GREEDY), "at most 12"),
        (lambda: Request("w1", GREEDY, Steering({9: np.zeros(48, np.float32)})), "does not fit"),
        (lambda: Request("w1", Sampling(temperature=-1)), "temperature"),
        (lambda: Request("w1", Sampling(stop=("",))), "stop"),
    ],
)
def test_bad_requests_get_one_line(tiny, request_, match):
    engine = TransformersEngine(tiny("llama"))
    with pytest.raises(AffectscopeError, match=match) as raised:
        engine.generate(request_())
    assert "\n" not in str(raised.value)


def test_nan_in_the_network_ends_the_episode_as_a_fault(tokenizer):
    from affectscope.models.load import wrap

    model = wrap(network_of("llama"), tokenizer)
    engine = TransformersEngine(model)
    generation = engine.generate(Request("w1 w2", GREEDY))
    [next(generation) for _ in range(3)]
    with torch.no_grad():
        model.anatomy.final_norm.weight.fill_(float("nan"))
    list(generation)
    assert generation.finished == "fault"


def test_an_episode_waits_for_its_reader_while_others_run(tiny):
    """What a reader decides on a token comes before the next draw, whoever else drives the engine meanwhile."""
    model = tiny("llama")
    engine = TransformersEngine(model, slots=3)
    first = engine.generate(Request("w1 w2 w3", Sampling(temperature=0, max_tokens=6)))
    for step in first:
        if step.generated:
            break
    list(engine.generate(Request("w4 w5", Sampling(temperature=0, max_tokens=6))))
    (fork,) = first.fork(1)
    list(fork)
    assert len(first.ids) == 1
    assert len(list(first)) == 5


def test_threads_that_read_at_once_get_their_own_steps(tiny):
    from concurrent.futures import ThreadPoolExecutor

    model = tiny("llama")
    engine = TransformersEngine(model, readout_for(model), slots=3)
    generations = [engine.generate(Request(p, GREEDY)) for p in PROMPTS]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(list, generations))
    for steps, prompt in zip(found, PROMPTS, strict=True):
        assert [s.token for s in steps if s.generated] == reference(model, prompt, 24)


def test_the_engine_fits_the_seam(tiny):
    engine: Engine = TransformersEngine(tiny("llama"))
    assert isinstance(engine.generate(Request("w1", GREEDY)), Generation)


def test_rearranged_weights_give_the_same_bits_and_are_gone_afterwards(tokenizer):
    from affectscope.engines.packed_weights import PackedWeights

    network = network_of("llama").bfloat16()
    plain = [network(torch.tensor([[i, 5, 9, 3]])).logits for i in range(4)]
    weights = PackedWeights(network)
    if not len(weights):
        pytest.skip("this build of torch cannot rearrange bfloat16 weights")
    with weights.used():
        assert "forward" in network.lm_head.__dict__
        again = [network(torch.tensor([[i, 5, 9, 3]])).logits for i in range(4)]
    assert all(torch.equal(one, other) for one, other in zip(plain, again, strict=True))
    assert not any("forward" in module.__dict__ for module in network.modules())
    assert not len(PackedWeights(network_of("llama")))  # float32 has nothing to gain


def test_draws_follow_the_distribution():
    from affectscope.engines.sampling import Sampler

    logits = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))
    for how, expected in (
        (Sampling(seed=0), [0.5, 0.3, 0.15, 0.05]),
        (Sampling(seed=0, top_k=2), [0.625, 0.375, 0, 0]),
        (Sampling(seed=0, top_p=0.75), [0.625, 0.375, 0, 0]),  # the second is kept: before it stands less than 0.75
        (Sampling(seed=0, top_p=0.1), [1, 0, 0, 0]),
    ):
        sampler = Sampler(how)
        counts = np.bincount([sampler.draw(logits, []) for _ in range(4000)], minlength=4) / 4000
        np.testing.assert_allclose(counts, expected, atol=0.025)


def test_a_wide_nucleus_is_sorted_whole():
    from affectscope.engines.sampling import Sampler

    sampler = Sampler(Sampling(seed=0, top_p=0.9))
    drawn = {sampler.draw(torch.zeros(5000), []) for _ in range(3000)}
    assert max(drawn) > 1024
    assert len(drawn) > 2000
