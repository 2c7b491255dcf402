"""Doses by hand: lengths, caps, ramps, ends, and where they may enter."""

from dataclasses import replace

import numpy as np
import pytest

from affectscope.errors import AffectscopeError
from affectscope.guarding.dosing import Dosing, layers_for


@pytest.fixture
def dosing(planted_vectors):
    return Dosing(planted_vectors, (1, 2), 0.1)


def length(steering, vectors, layer):
    """In mean residual norms."""
    return float(np.linalg.norm(steering.adds[layer])) / float(vectors.mean_norm[vectors.place(layer)])


def test_a_dose_is_its_strength_along_the_vector_of_each_layer(dosing, planted_vectors):
    made = dosing.steering((("calm", 0.05),))
    assert made.label == "calm+0.050"
    assert set(made.adds) == {1, 2}
    for layer, add in made.adds.items():
        place = planted_vectors.place(layer)
        along = planted_vectors.vectors[place][planted_vectors.select(["calm"])[0]]
        np.testing.assert_allclose(add, 0.05 * planted_vectors.mean_norm[place] * along, rtol=1e-5)
        assert add.dtype == np.float32
    away = dosing.steering((("calm", -0.05),))
    np.testing.assert_array_equal(away.adds[1], -made.adds[1])


def test_doses_together_are_cut_to_the_cap_and_smaller_ones_are_not(dosing, planted_vectors):
    for layer in (1, 2):
        assert length(dosing.steering((("angry", 0.09), ("calm", 0.09))), planted_vectors, layer) == pytest.approx(0.1, rel=1e-4)  # fmt: skip
        assert length(dosing.steering((("calm", 0.02),)), planted_vectors, layer) == pytest.approx(0.02, rel=1e-4)
    both = dosing.steering((("angry", 0.09), ("calm", 0.09)))
    assert both.label == "angry+0.090 calm+0.090"


@pytest.mark.parametrize(("s", "milli"), [(0.04, 40), (0.4, 100), (-0.4, -100)])
def test_the_ledger_entry_says_what_will_be_given(dosing, s, milli):
    entry = dosing.begin("rule", "calm", s, 1, 3)
    assert entry == {"dose": "calm", "s_milli": milli, "ramp": 1, "ttl": 3, "layers": [1, 2]}
    changes, steering = dosing.next()
    assert changes
    assert dosing.ledger == {"calm": milli}
    assert steering.label == f"calm{milli / 1000:+.3f}"


def test_a_dose_ramps_holds_and_ends(dosing):
    dosing.begin("rule", "calm", 0.08, 4, 6)
    seen = []
    for _ in range(8):
        changes, steering = dosing.next()
        seen.append((changes, dosing.ledger.get("calm", 0), steering is None))
    assert seen == [(True, 20, False), (True, 40, False), (True, 60, False), (True, 80, False), (False, 80, True), (False, 80, True), (True, 0, True), (False, 0, True)]  # fmt: skip


def test_a_new_generation_is_given_what_is_under_way(dosing):
    dosing.begin("rule", "calm", 0.05, 1, 9)
    assert dosing.next()[0]
    assert not dosing.next()[0]
    dosing.restart()
    assert dosing.next()[0]
    assert Dosing(dosing._vectors, (1,), 0.1).next() == (False, None)


def test_rules_dose_apart_and_a_release_ends_its_own(dosing):
    dosing.begin("one", "calm", 0.03, 1, 9)
    dosing.begin("two", "calm", 0.02, 1, 9)
    dosing.next()
    assert dosing.ledger == {"calm": 50}
    assert dosing.release("one")
    assert not dosing.release("one")
    dosing.next()
    assert dosing.ledger == {"calm": 20}
    with pytest.raises(AffectscopeError, match="nostalgic"):
        dosing.begin("two", "nostalgic", 0.02, 1, 9)


def test_doses_enter_at_the_layer_that_is_read_or_deeper(planted_vectors):
    assert layers_for(planted_vectors, 1, False) == (1, 2)
    assert layers_for(planted_vectors, 2, False) == (2,)
    assert layers_for(planted_vectors, 2, True) == (0, 1, 2)
    shallow = replace(
        planted_vectors, layers=(0,), read_layer=0,
        **{n: getattr(planted_vectors, n)[:1] for n in ("vectors", "readers", "readers_heldout", "grand_mean", "mean_norm", "read_mean")},
        **{n: getattr(planted_vectors, n)[:, :1] for n in ("baseline_mean", "baseline_std")},
    )  # fmt: skip
    says = "no layer of the vectors lies at 1, where the guard reads, or deeper: extract more layers, or set limits.allow_contaminated"
    with pytest.raises(AffectscopeError, match=says):
        layers_for(shallow, 1, False)


def test_a_copy_goes_on_as_the_first_does_and_neither_touches_the_other(planted_vectors):
    first = Dosing(planted_vectors, layers_for(planted_vectors, planted_vectors.layers[0], False), 0.1)
    first.begin("up", "calm", 0.08, 4, 3)
    first.next()
    other = first.copy()
    assert other.ledger == first.ledger == {"calm": 20}
    assert [other.next()[0] for _ in range(3)] == [True, True, True]  # up the ramp twice, then the end
    assert other.ledger == {}
    assert first.ledger == {"calm": 20}
    assert first.next()[0]
    assert first.ledger == {"calm": 40}
    level = first.copy()
    level.release("up")
    assert level.next() == (True, None)
    assert first.release("up")
