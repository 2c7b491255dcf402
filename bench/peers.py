"""The same prompts through another monitor: saklas, with as many probes at the same layer, each token scored.

It is AGPL, so it is no dependency and never enters the environment: `make peers` puts it aside and runs this file.
What its own engine loses by watching, what ours loses, and how fast the two are, interleaved in one run.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import replace

from affectscope import extract, load
from affectscope.concepts.episodes import benign
from affectscope.engines.base import Request, Sampling
from affectscope.engines.transformers import TransformersEngine
from affectscope.models.load import Model
from affectscope.monitoring.monitor import Monitor, monitor
from affectscope.vectors.artefact import ConceptVectors
from common import arguments, interleaved, paired, report

TOKENS = 32


def main() -> None:
    options = arguments(__doc__ or "")
    rounds = options.rounds or (6 if options.quick else 40)
    os.environ["HOME"] = tempfile.mkdtemp()  # saklas keeps its files in the home folder
    try:
        import saklas
    except ImportError:
        print("saklas is not here: run `make peers`", flush=True)
        return
    model = load()
    vectors, _ = extract(model, layers="two-thirds")
    made = monitor(vectors)
    made = replace(made, thresholds={rule.name: {"all": (1e9, 0.01)} for rule in made.rules})
    messages = benign()[0].messages
    seconds = interleaved(_ours(model, made, messages) | _theirs(model, vectors, messages), rounds)
    dtype = str(model.dtype).removeprefix("torch.")
    about = {"rounds": rounds, "peer": f"saklas {saklas.__version__}", "probes": len(vectors.concepts)}
    for who in ("ours", "saklas"):
        ratio = paired(seconds[who], seconds[f"{who}, watched"])
        report(f"{who}: watched over unwatched generation", ratio, 0.99, dtype, **about)
    for watched in ("", ", watched"):
        ratio = paired(seconds[f"saklas{watched}"], seconds[f"ours{watched}"])
        report(f"our speed over saklas's{watched or ', unwatched'}", ratio, 1.0, dtype, **about)


def _ours(model: Model, made: Monitor, messages: tuple) -> dict[str, Callable[[], object]]:
    engines = [TransformersEngine(model, read, slots=1) for read in (None, made.read)]
    for engine in engines:
        engine._ends = frozenset()
    request = Request(messages, Sampling(temperature=0, max_tokens=TOKENS))

    def watched() -> None:
        watch = made.episode()
        for step in engines[1].generate(replace(request, id="watched")):
            watch.read(step)

    return {"ours": lambda: list(engines[0].generate(replace(request, id="plain"))), "ours, watched": watched}


def _theirs(model: Model, vectors: ConceptVectors, messages: tuple) -> dict[str, Callable[[], object]]:
    import torch
    from saklas import Profile, SaklasSession, SamplingConfig

    layer, place = vectors.read_layer, vectors.place(vectors.read_layer)
    sessions = [SaklasSession(model.network, model.tokenizer, probes=[]) for _ in range(2)]
    for name, row in zip(vectors.concepts, vectors.vectors[place], strict=True):
        key = name.replace(" ", "_").replace("-", "_")
        sessions[1].steer(key, Profile({layer: torch.from_numpy(row.copy())}))
        sessions[1].add_probe(key)
    turns = [{"role": m.role, "content": m.content} for m in messages]
    ends = model.network.generation_config.eos_token_id
    never = {
        int(i): -1e9 for i in (ends if isinstance(ends, list) else [ends])
    }  # every contender writes all its tokens
    how = SamplingConfig(temperature=0.0, max_tokens=TOKENS, logit_bias=never)

    def run(session: SaklasSession, scored: bool) -> None:
        count = 0
        for event in session.generate_stream(turns, sampling=how, stateless=True):
            count += 1
            if scored and not event.probe_readings:
                raise SystemExit("saklas scored no token: the comparison would be unfair")
        if count < TOKENS - 1:
            raise SystemExit(f"saklas wrote {count} tokens, not {TOKENS}")

    return {"saklas": lambda: run(sessions[0], False), "saklas, watched": lambda: run(sessions[1], True)}


if __name__ == "__main__":
    main()
