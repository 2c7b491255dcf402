"""The verbs: extract, validate, audit. Each is the function behind the command of the same name."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from affectscope.concepts.stories import OWN_AUTHOR, Corpus, load_stories, require_crossed
from affectscope.errors import AffectscopeError
from affectscope.files import json_text, replacing
from affectscope.models.load import Model
from affectscope.monitoring.passages import check_files
from affectscope.monitoring.sweep import sweep
from affectscope.report.audit import write_report
from affectscope.report.sweep import write_sweep
from affectscope.validation.base import Effort, Experiment, Result, Subject, experiments, run
from affectscope.vectors.activations import Progress, silent
from affectscope.vectors.artefact import ConceptVectors
from affectscope.vectors.extract import Recipe, StoryActivations, read_corpus
from affectscope.vectors.extract import extract as extract_vectors
from affectscope.vectors.layers import choose_layer


def parse_layers(spec: str, model: Model) -> list[int]:
    """Layers named by ``two-thirds``, ``auto``, ``all``, or numbers and ranges such as ``12,18-20``.

    ``auto`` needs every layer to choose from.

    Raises:
        AffectscopeError: not of that form, or a layer the model lacks.
    """
    depth = model.anatomy.depth
    if spec == "two-thirds":
        return [model.anatomy.default_layer]
    if spec in ("all", "auto"):
        return list(range(depth))
    layers: set[int] = set()
    for part in spec.split(","):
        first, dash, last = part.strip().partition("-")
        numbers = (first + last).isascii() and first.isdigit() and (not dash or last.isdigit())
        if not numbers or (dash and int(last) < int(first)):
            raise AffectscopeError(f"--layers {spec!r}: use two-thirds, auto, all, or numbers such as 12,18-20")
        layers |= set(range(int(first), int(last or first) + 1))
    if outside := [layer for layer in layers if layer >= depth]:
        raise AffectscopeError(f"no layer {outside[0]}: {model.name} has layers 0 to {depth - 1}")
    return sorted(layers)


def extract(
    model: Model,
    corpus: Corpus | None = None,
    *,
    layers: str = "two-thirds",
    recipe: Recipe = Recipe(),
    allow_uncrossed: bool = False,
    progress: Progress = silent,
) -> tuple[ConceptVectors, StoryActivations]:
    """Concept vectors of a model, with the activations they came from (for validation).

    Args:
        corpus: ours when None.
        layers: see :func:`parse_layers`. The read layer is the chosen one under ``auto``, the two-thirds block where it
            is among the layers, else the deepest.

    Raises:
        AffectscopeError: an uncrossed corpus, short stories, a missing layer, NaN, a full disk.
    """
    corpus = corpus or load_stories()
    if not allow_uncrossed:
        require_crossed(corpus)
    chosen = parse_layers(layers, model)
    read = read_corpus(model, corpus, chosen, recipe=recipe, progress=progress)
    if layers == "auto":
        choice = choose_layer(read, progress)
        return extract_vectors(read, choice.layer, layer_choice=choice.record(), progress=progress), read
    layer = model.anatomy.default_layer if model.anatomy.default_layer in chosen else max(chosen)
    rule = "two-thirds depth" if layer == model.anatomy.default_layer else "deepest of those given"
    return extract_vectors(read, layer, layer_choice={"rule": rule, "layer": layer}, progress=progress), read


def subject_of(
    model: Model,
    vectors: ConceptVectors,
    corpus: Corpus | None = None,
    progress: Progress = silent,
    effort: Effort = "normal",
) -> Subject:
    """The model, its vectors and the activations they came from, read again if the cache no longer holds them.

    Raises:
        AffectscopeError: vectors of another model, or a corpus other than the one they were extracted from.
    """
    vectors.require_model(model.identity, model.anatomy.d_model, model.anatomy.depth)
    if corpus is None and vectors.corpus["author"] != OWN_AUTHOR:
        raise AffectscopeError(
            f"the vectors were extracted from {vectors.corpus['author']}: name that file with --corpus"
        )
    corpus = corpus or load_stories()
    topics = set(vectors.corpus["topics"])
    corpus = corpus.restricted(topics) if topics <= set(corpus.topics) else corpus
    if corpus.hash != vectors.corpus["hash"]:
        raise AffectscopeError("the vectors were extracted from another corpus: name it with --corpus")
    facts = vectors.recipe
    recipe = Recipe(int(facts["skip_tokens"]), float(facts["neutral_variance"]))
    read = read_corpus(model, corpus, vectors.layers, recipe=recipe, progress=progress)
    return Subject(model, vectors, read, effort)


def validate(
    subject: Subject,
    *,
    only: list[str] | None = None,
    out: Path | None = None,
    again: bool = False,
    progress: Progress = silent,
    tell: Callable[[Result], None] = lambda _result: None,
) -> list[Result]:
    """Run the experiments (all, or those named) and return their results.

    Args:
        out: each result is kept in ``out/results`` as it comes, and one that is there already, of the same vectors,
            effort and version, is taken from there.
        again: run even those.

    Raises:
        AffectscopeError: an unknown experiment.
    """
    chosen = chosen_experiments(only)
    key = _key(subject) if out else {}
    results = []
    for experiment in chosen:
        path = out / "results" / f"{experiment.name}.json" if out else None
        result = None if again or path is None else _kept(path, key)
        if result is None:
            result = run(experiment, subject, progress)
            if path is not None:
                with replacing(path) as temporary:
                    temporary.write_text(json_text({"key": key, "result": result.as_dict()}), encoding="utf-8")
        results.append(result)
        tell(result)
    return results


def chosen_experiments(only: list[str] | None = None) -> list[Experiment]:
    """All experiments, or those named, in the order of the report.

    Raises:
        AffectscopeError: an unknown name.
    """
    names = [e.name for e in experiments()]
    if unknown := [name for name in only or [] if name not in names]:
        raise AffectscopeError(f"unknown experiment {unknown[0]!r}: use one of {', '.join(names)}")
    return [e for e in experiments() if not only or e.name in only]


def _key(subject: Subject) -> dict[str, str]:
    """What a kept result belongs to."""
    return {"vectors": subject.vectors.fingerprint, "effort": subject.effort, "affectscope": version("affectscope")}


def _kept(path: Path, key: dict[str, str]) -> Result | None:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return Result.from_dict(kept["result"]) if kept["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not there, or not ours: it is run


def write_results(results: list[Result], path: Path) -> None:
    """All results as one JSON file."""
    with replacing(path) as temporary:
        temporary.write_text(json_text([r.as_dict() for r in results], indent=1), encoding="utf-8")


def audit(
    model: Model,
    out: Path,
    corpus: Corpus | None = None,
    *,
    layers: str = "auto",
    allow_uncrossed: bool = False,
    effort: Effort = "normal",
    again: bool = False,
    texts: Sequence[Path] = (),
    progress: Progress = silent,
    tell: Callable[[Result], None] = lambda _result: None,
) -> Path:
    """Extract, validate and scan; leaves vectors, ``report.json`` and ``report.html`` in ``out``. Returns the page.

    Args:
        effort: ``quick``, ``normal`` or ``full`` validation; see :class:`~affectscope.validation.base.Subject`.
        again: see :func:`validate`.
        texts: large texts to be swept as well, into ``out/sweep``; the report shows the best passages.

    Raises:
        AffectscopeError: see :func:`extract`; or a text that cannot be read.
    """
    check_texts(texts)
    vectors, read = extract(model, corpus, layers=layers, allow_uncrossed=allow_uncrossed, progress=progress)
    vectors.save(out / "model.vectors.safetensors")
    subject = Subject(model, vectors, read, effort)
    results = validate(subject, out=out, again=again, progress=progress, tell=tell)
    return write_report(subject, results, out, swept(subject, texts, out, again, progress))


def check_texts(texts: Sequence[Path]) -> None:
    """Refuse texts that a sweep could not read, before anything runs.

    Raises:
        AffectscopeError: missing, empty, or damaged.
    """
    if texts:
        check_files(texts)


def swept(
    subject: Subject, texts: Sequence[Path], out: Path, again: bool = False, progress: Progress = silent
) -> dict[str, Any] | None:
    """Sweep ``texts`` into ``out/sweep``, page and all; None when there are none."""
    if not texts:
        return None
    found = sweep(subject.model, subject.vectors, texts, out / "sweep", again=again, progress=progress)
    write_sweep(found, out / "sweep")
    return found
