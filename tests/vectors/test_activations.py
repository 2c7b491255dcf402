"""Interrupted at any moment and run again, an extraction goes on and ends the same."""

import errno
import os

import numpy as np
import pytest
from tests.conftest import planted_corpus

from affectscope.errors import AffectscopeError
from affectscope.models import residuals
from affectscope.vectors import activations
from affectscope.vectors.activations import mean_activations


class Stop(KeyboardInterrupt):
    pass


def read(model, progress=activations.silent, budget=300):
    texts = [model.encode(s.text) for s in planted_corpus().stories]
    return mean_activations(model, texts, [0, 2], skip=50, progress=progress, budget=budget)


@pytest.mark.parametrize("after", [1, 3, 7])
def test_an_interrupted_run_reads_only_what_is_missing(planted, monkeypatch, tmp_path, after):
    model, _ = planted
    whole = read(model)
    monkeypatch.setenv("AFFECTSCOPE_CACHE", str(tmp_path / "other"))
    calls = []

    def stop(_stage, done, _total):
        calls.append(done)
        if len(calls) > after:
            raise Stop

    with pytest.raises(Stop):
        read(model, stop)
    saved = calls[-1]
    seen = []
    visit = residuals.visit
    monkeypatch.setattr(residuals, "visit", lambda m, texts, *rest: (seen.extend(texts), visit(m, texts, *rest)))
    again = read(model)
    assert saved > 0
    assert len(seen) == len(planted_corpus().stories) - saved
    for layer in (0, 2):
        np.testing.assert_allclose(again.layer(layer), whole.layer(layer), rtol=1e-5, atol=1e-6)


def test_a_finished_run_is_not_repeated(planted, monkeypatch):
    model, _ = planted
    read(model)
    monkeypatch.setattr(residuals, "visit", lambda *_a: pytest.fail("read again"))
    read(model)


def test_a_full_disk_is_one_clear_line(planted, monkeypatch):
    def full(*_args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(activations.os, "posix_fallocate", full)
    with pytest.raises(AffectscopeError, match=r"the disk is full.*free some space"):
        read(planted[0])


def test_a_full_disk_while_saving_leaves_nothing(planted_vectors, tmp_path, monkeypatch):
    import safetensors.numpy

    def full(_tensors, path, _metadata):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(safetensors.numpy, "save_file", full)
    with pytest.raises(AffectscopeError, match="the disk is full"):
        planted_vectors.save(tmp_path / "v.safetensors")
    assert list(tmp_path.glob("*safetensors*")) == []
    assert list(tmp_path.glob(".v*")) == []


def test_other_layers_other_texts_other_folder(planted):
    model, _ = planted
    texts = [model.encode(s.text) for s in planted_corpus().stories]
    one = mean_activations(model, texts, [0], skip=50)
    assert mean_activations(model, texts, [1], skip=50).folder != one.folder
    assert mean_activations(model, texts[1:], [0], skip=50).folder != one.folder
    assert mean_activations(model, texts, [0], skip=40).folder != one.folder
