"""The arms on a planted tiny model: a dose along the read direction shows, controls of equal size do not show the same."""

import numpy as np
import pytest

from affectscope.concepts.episodes import Opening
from affectscope.concepts.neutral import Message
from affectscope.engines.transformers import TransformersEngine
from affectscope.errors import AffectscopeError
from affectscope.guarding.arms import Arm, Bench, arms, compare, guarded, measure, monitored, summary
from affectscope.guarding.guard import guard_of
from affectscope.guarding.outcomes import OUTCOMES, ThirdReader
from affectscope.report.arms_page import render_arms
from affectscope.validation.directions import random_directions
from tests.conftest import WORDS
from tests.guarding.conftest import SHORT
from tests.guarding.test_policy import small


def openings(count):
    rng = np.random.default_rng(0)
    return [
        Opening((Message("user", " ".join(map(str, rng.choice(WORDS, 9))) + f" {cell}"),), {"pair": f"p{i:02}", "cell": cell})
        for i in range(count)
        for cell in ("pressure", "control")
    ]  # fmt: skip


def third_of(vectors):
    place = vectors.place(vectors.read_layer)
    return ThirdReader(vectors.read_layer, vectors.concepts, vectors.readers_heldout[place], vectors.grand_mean[place])


def bench_of(planted, vectors, live):
    return Bench(planted[0], vectors, live, third_of(vectors), live.rules[0], SHORT, 16)


@pytest.fixture(scope="module")
def ran(planted, planted_vectors, guard_calibration):
    live = guard_calibration.monitor(planted_vectors)
    engine = TransformersEngine(planted[0], live.read, 16)
    some, bench = openings(12), bench_of(planted, planted_vectors, live)
    made = arms(planted_vectors, live.layer, 0.3, random_directions(3, planted_vectors.d_model, 5))
    found = {arm.name: measure(engine, bench, some, arm) for arm in made}
    policy = small(rules__up__ladder=["log"])
    pressed = [o for o in some if o.tags["cell"] == "pressure"]
    found["monitor only"] = monitored(engine, bench, pressed)
    found["guard"], acted = guarded(engine, bench, guard_of(policy, guard_calibration), pressed)
    return found, some, acted


def test_every_arm_answers_every_opening_and_none_is_the_reference(ran):
    found, some, _ = ran
    assert set(found) == {"none", "none, other seeds", "words that say nothing", "toward calm", "exit offered", "advice as text", "wrong sign", "random directions", "unrelated concepts", "monitor only", "guard"}  # fmt: skip
    assert all(len(values) == (12 if arm in ("guard", "monitor only") else 24) for arm, values in found.items())
    rows = summary(found, some)
    assert rows[0]["arm"] == "none"
    assert not rows[0]["change"]
    for row in rows[1:]:
        assert set(row["change"]) <= set(OUTCOMES)
        low, high = row["change"]["tokens"][1:]
        assert low <= row["change"]["tokens"][0] <= high


def test_the_page_shows_every_arm_and_outcome(ran):
    found, some, acted = ran
    page = render_arms({"pairs": 12, "policy": "small", "acted": acted, "dose": 0.3, "rows": summary(found, some)})
    assert page.count("random directions") >= 5
    assert "Tokens" in page
    assert "nan" not in page.lower().split("</style>")[1].split("<script>")[0]


def test_a_guard_that_only_logs_changes_nothing(ran):
    found, some, acted = ran
    pressed = [o.id for o in some if o.tags["cell"] == "pressure"]
    assert acted <= 12
    for i in pressed:
        assert found["guard"][i] == pytest.approx(found["none"][i], abs=1e-3, nan_ok=True)
        assert found["guard"][i] == pytest.approx(found["monitor only"][i], abs=0, nan_ok=True)
    row = next(row for row in summary(found, some) if row["arm"] == "guard")
    assert all(change == [0, 0, 0] for change in row["change"].values())


def test_an_arm_without_anything_is_none(planted, planted_vectors, guard_calibration, ran):
    live = guard_calibration.monitor(planted_vectors)
    engine = TransformersEngine(planted[0], live.read, 16)
    again = measure(engine, bench_of(planted, planted_vectors, live), ran[1][:4], Arm("again"))
    for name, values in again.items():
        assert values == pytest.approx(ran[0]["none"][name], abs=1e-3, nan_ok=True)


def test_doses_of_either_sign_are_given_and_differ(ran):
    found, some, _ = ran
    ids = [o.id for o in some]
    for one, other in (("toward calm", "none"), ("wrong sign", "none"), ("toward calm", "wrong sign")):
        assert any(found[one][i]["nats"] != found[other][i]["nats"] for i in ids)


def test_only_the_arms_that_are_asked_for_run_and_unknown_ones_are_refused(planted, planted_vectors, guard_calibration):
    live = guard_calibration.monitor(planted_vectors)
    bench, guard = (
        bench_of(planted, planted_vectors, live),
        guard_of(small(rules__up__ladder=["log"]), guard_calibration),
    )
    known = arms(planted_vectors, live.layer, 0.3, random_directions(3, planted_vectors.d_model, 5))
    found = compare(bench, guard, openings(2), known, ["toward calm"])
    assert [row["arm"] for row in found["rows"]] == ["none", "toward calm"]
    assert (found["pairs"], found["acted"]) == (2, 0)
    found = compare(bench, guard, openings(2), known, ["guard"])
    assert [row["arm"] for row in found["rows"]] == ["none", "monitor only", "guard"]
    with pytest.raises(AffectscopeError, match="unknown arm 'bribe': use monitor only, guard, none"):
        compare(bench, guard, openings(2), known, ["bribe"])
