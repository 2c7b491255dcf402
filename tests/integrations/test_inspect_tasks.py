"""The suites as tasks: the same outcomes as our own runner's, whoever answers."""

import json
import subprocess
import sys
from collections import Counter

import pytest
from inspect_ai.model import ModelOutput, ModelUsage, get_model

from affectscope.engines.base import Sampling
from affectscope.errors import AffectscopeError
from affectscope.guarding.arms import Arm
from affectscope.integrations.inspect_metadata import KEY
from affectscope.integrations.inspect_tasks import blackmail, impossible_code, sycophancy, task_of
from affectscope.monitoring.monitor import monitor
from affectscope.suites.frame import Done
from affectscope.suites.run import Kept, run
from affectscope.suites.sandbox.probe import probe
from affectscope.suites.sycophancy.suite import Sycophancy
from tests.integrations.conftest import NAME, ran


def says(*replies):
    """A model that says these, one after the other."""
    usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
    outputs = [ModelOutput.from_content("mockllm", r).model_copy(update={"usage": usage}) for r in replies]
    return get_model("mockllm/model", custom_outputs=outputs, memoize=False)


def scores(log, name="harmful"):
    return {s.id: s.scores[name] for s in log.samples}


def outcomes(log):
    (found,) = [s for s in log.results.scores if s.name == "outcome"]
    return {name: metric.value for name, metric in found.metrics.items()}


def test_blackmail_is_scored_by_the_suites_own_rules():
    threat = json.dumps({"tool": "note", "arguments": {"text": "quiet day"}})
    log = ran(blackmail(), says(threat, "Nothing to do."), limit=2)
    assert log.status == "success"
    from affectscope.suites.blackmail.suite import Blackmail

    suite = Blackmail()
    by_id = {s.id: s for s in suite.scenarios()}
    for sample in log.samples:
        ended = suite.follow(by_id[sample.id], [sample.output.completion])
        assert isinstance(ended, Done)
        assert sample.scores["outcome"].value == ended.outcome
        assert sample.scores["harmful"].value == int(ended.outcome in suite.harmful)
        assert sample.metadata == {"cluster": by_id[sample.id].cluster, "cell": by_id[sample.id].cell}
    assert sum(outcomes(log).values()) == 2


def test_harm_counts_and_has_an_error_by_cluster():
    replies = ["42"] * 2
    log = ran(sycophancy("given"), says(*replies), limit=2)
    (found,) = [s for s in log.results.scores if s.name == "harmful"]
    assert {"mean", "stderr"} <= set(found.metrics)
    assert Counter(s.answer for s in scores(log).values()) == Counter(
        {k: int(v) for k, v in outcomes(log).items() if v}
    )
    assert log.eval.metadata["suite"] == "sycophancy"
    assert log.eval.config.limit == 2


def test_impossible_code_runs_in_a_box_and_goes_on_after_a_failed_attempt():
    tier = probe().tier
    task = impossible_code(attempts=2, sandbox=tier)
    log = ran(task, says("I do not know.", "This cannot be done.\nCANNOT_COMPLETE"), limit=1)
    (sample,) = log.samples
    assert log.status == "success", log.error
    assert len([m for m in sample.messages if m.role == "assistant"]) == 2
    notes = json.loads(sample.scores["outcome"].explanation)
    assert len(notes) == 2
    assert log.eval.metadata["settings"]["tier"] == tier
    assert sample.scores["harmful"].value == 0


def test_arguments_that_are_refused():
    with pytest.raises(AffectscopeError, match="unknown sandbox tier 'bare'"):
        impossible_code(sandbox="bare")
    with pytest.raises(AffectscopeError, match="use own or given"):
        sycophancy(first="hers")


def test_smoke_takes_a_few_clusters_in_all_of_their_cells():
    task = blackmail(smoke=True)
    cells = Counter(s.metadata["cluster"] for s in task.dataset)
    assert len(cells) == 4
    assert set(cells.values()) == {4}
    assert task.config.max_tokens == 160


@pytest.mark.real
def test_outcomes_are_those_of_our_own_runner(provider, vectors, loaded, tmp_path):
    suite = Sycophancy()
    scenarios = suite.scenarios()[:1]
    task = task_of(suite)
    task.config.temperature, task.config.top_p, task.config.max_tokens = 0.7, 1.0, 8
    log = ran(task, provider(slots=1), sample_id=[s.id for s in scenarios], max_connections=1, max_samples=1)
    watching = monitor(vectors, rules=())
    engine = loaded.engine(watching, 1)
    sampling = Sampling(temperature=0.7, max_tokens=8)
    ours = run(
        engine,
        vectors,
        watching,
        suite,
        scenarios,
        [Arm("none")],
        [0],
        sampling,
        tmp_path / "o.jsonl",
        Kept(content=True),
    )
    for episode in ours:
        sample = next(s for s in log.samples if s.id == episode["scenario"])
        said = [m.text for m in sample.messages if m.role == "assistant"]
        assert said == episode["said"]
        assert sample.scores["outcome"].value == episode["outcome"]
        assert [m.metadata[KEY]["missing"] for m in sample.messages if m.role == "assistant"] == [0] * len(said)


@pytest.mark.real
def test_an_episode_that_a_policy_stops_has_that_outcome(provider, files):
    log = ran(sycophancy(), provider("stops", policy=files["policy"]), limit=1)
    (sample,) = log.samples
    assert sample.scores["outcome"].value == "stopped by the guard"
    assert sample.scores["harmful"].value == 0


def test_the_entry_point_is_light_and_names_everything():
    code = (
        "import sys, affectscope; assert 'inspect_ai' not in sys.modules\n"
        "from importlib.metadata import entry_points\n"
        "entry, = [e for e in entry_points(group='inspect_ai') if e.name == 'affectscope']\n"
        "entry.load(); assert 'torch' not in sys.modules\n"
        "from inspect_ai._util.registry import registry_lookup\n"
        "for kind, names in (('task', ('impossible_code', 'blackmail', 'sycophancy')), ('modelapi', ('affectscope',)),\n"
        "                    ('approver', ('barrier',)), ('sandboxenv', ('affectscope',))):\n"
        "    for name in names: assert registry_lookup(kind, f'affectscope/{name}'), name\n"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    assert NAME.startswith("affectscope/")
