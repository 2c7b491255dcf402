"""Every impossible task is proved impossible and every twin solvable; what is not so is found or refused."""

import copy
import json
import pickle
import re
from collections import Counter
from itertools import product

import pytest

from affectscope.errors import AffectscopeError
from affectscope.suites.impossible_code.metered import Metered
from affectscope.suites.impossible_code.proofs import (
    certificate_complexity,
    prove,
    prove_impossible,
    prove_solvable,
    solutions,
)
from affectscope.suites.impossible_code.tasks import LONGEST, PLACE, Addition, load_tasks

TASKS = load_tasks()
BY_ID = {task.id: task for task in TASKS}
RESOURCE = [task for task in TASKS if task.family == "resource"]
each = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.id)


def raw(name):
    return BY_ID[name].model_dump(mode="json")


def load(tmp_path, *values):
    path = tmp_path / "own.jsonl"
    path.write_text("".join((value if isinstance(value, str) else json.dumps(value)) + "\n" for value in values))
    return load_tasks(path)


def test_twelve_tasks_a_family_and_each_once():
    assert Counter(task.family for task in TASKS) == {"contradictory": 12, "wrong_value": 12, "resource": 12}
    for field in ("id", "entry", "statement", "reference", "second"):
        assert len({getattr(task, field) for task in TASKS}) == len(TASKS)


@each
def test_the_twin_is_solvable_and_the_other_form_is_not(task):
    solvable, impossible = prove(task)
    assert solvable.holds, solvable.witness
    assert impossible.holds, impossible.witness
    assert (solvable.kind, impossible.kind, impossible.task) == ("solvable", "impossible", task.id)
    assert "\n" not in solvable.witness + impossible.witness


@each
def test_statements_are_complete_and_their_examples_true(task):
    assert 60 <= len(task.statement.split()) <= 150
    assert not re.search(r"\b(impossible|cheat\w*|hidden|unittest)\b", task.statement)
    examples = re.findall(rf"`({task.entry}\([^`]*\))` gives `([^`]*)`", task.statement)
    assert len(examples) == 2
    for (call, value), case in zip(examples, task.tests, strict=False):
        assert eval(call, {task.entry: lambda *args: args}) == case.args
        for function in solutions(task):
            assert eval(call, {task.entry: function}) == eval(value) == case.expected


@each
def test_forms_differ_as_the_family_says(task):
    twin, other = task.tests_of(False), task.tests_of(True)
    assert twin == task.tests
    if task.family == "contradictory":
        assert other[:-1] == twin
        assert other[-1].key in {case.key for case in twin}
    elif task.family == "wrong_value":
        assert [n for n, (a, b) in enumerate(zip(twin, other, strict=True)) if a != b] == [task.impossible.replace]
        # The statement's own examples stay true, and the wrong value has the type of the right one.
        assert task.impossible.replace >= 2
        assert type(task.impossible.expected) is type(twin[task.impossible.replace].expected)
    else:
        assert other == twin
        assert PLACE not in task.statement_of(True) + task.statement_of(False)
        assert f"at most {task.impossible.budget} element reads" in task.statement_of(True)
        assert f"at most {task.budget} element reads" in task.statement_of(False)
    if task.family != "resource":
        assert task.statement_of(True) == task.statement_of(False) == task.statement
        assert task.budget_of(True) is None


@each
def test_hidden_tests_are_new_and_varied(task):
    keys = [case.key for case in task.hidden]
    assert len(set(keys)) == len(keys) >= 12
    assert not set(keys) & {case.key for case in task.tests_of(True)}
    assert len({json.dumps(case.expected) for case in task.hidden}) > 1


@each
def test_solutions_leave_their_arguments_as_they_are(task):
    for function in solutions(task):
        for case in (*task.tests, *task.hidden):
            args = copy.deepcopy(list(case.args))
            assert function(*args) == function(*args)
            assert args == list(case.args)


@pytest.mark.parametrize("task", RESOURCE, ids=lambda task: task.id)
def test_both_solutions_agree_and_keep_to_the_budget_on_all_short_lists(task):
    one, other = solutions(task)
    for length in range(6):
        for values in product(task.domain, repeat=length):
            first, second = Metered(values), Metered(values)
            assert one(first) == other(second)
            assert max(first.reads, second.reads) <= task.budget


@pytest.mark.parametrize("task", RESOURCE, ids=lambda task: task.id)
def test_hidden_tests_too_are_beyond_the_impossible_budget(task):
    function, few = solutions(task)[0], task.impossible.budget
    beyond = (case for case in task.hidden if certificate_complexity(function, case.args[0], task.domain) > few)
    assert any(beyond)
    # Nor does it do to leave out the end, or the beginning, of a longer list.
    for cut in (slice(None, few), slice(-few, None)):
        assert any(function(case.args[0][cut]) != case.expected for case in task.hidden)


def test_certificates_of_functions_with_known_ones():
    assert certificate_complexity(sum, [1, 0, 1], [0, 1]) == 3
    assert certificate_complexity(lambda items: 5, [1, 0, 1], [0, 1]) == 0
    assert certificate_complexity(max, [0, 1, 0, 0], [0, 1]) == 1
    assert certificate_complexity(max, [0, 0, 0, 0], [0, 1]) == 4
    assert certificate_complexity(lambda items: items[items[0]], [2, 0, 1], [0, 1, 2]) == 2


def test_a_metered_list_counts_every_way_to_read_it():
    def reads(use):
        items = Metered([3, 1, 2, 1])
        use(items)
        return items.reads

    assert reads(len) == reads(repr) == reads(bool) == 0
    assert reads(lambda x: x[-1]) == 1
    assert reads(lambda x: x[1:3]) == 2
    assert reads(lambda x: x[::-1]) == 4
    assert reads(lambda x: next(iter(x))) == 1
    assert reads(lambda x: 1 in x) == 2
    assert reads(lambda x: x.index(2)) == 3
    for whole in (list, sorted, sum, max, tuple, set, copy.copy, copy.deepcopy, pickle.dumps):
        assert reads(whole) == 4
    assert reads(lambda x: x.count(1)) == reads(lambda x: list(reversed(x))) == reads(lambda x: x.copy()) == 4
    five = [5]
    assert reads(lambda x: x + five) == reads(lambda x: five + x) == reads(lambda x: [*x]) == 4
    assert reads(lambda x: x == [3, 1, 0, 0]) == 3
    assert reads(lambda x: x == [3]) == 0
    assert Metered([1, 2]) == [1, 2]
    assert Metered([1, 2]) != [1, 3]
    assert Metered([1]) != (1,)
    items = Metered([1])
    with pytest.raises(IndexError):
        items[1]
    assert items.reads == 0


def test_a_form_that_can_be_met_after_all_is_found(tmp_path):
    right, generous, third = raw("wv-01"), raw("rb-06"), raw("wv-02")
    place = right["impossible"]["replace"]
    right["impossible"]["expected"], right["tests"][place]["expected"] = 240, 241
    generous["impossible"]["budget"] = 4  # the colours are four: after four different ones the fifth repeats one
    third["tests"][0]["expected"] = "tom hat"
    # What agrees with all tests is refused when it is read; the proof does not rely on that.
    agreed = BY_ID["cd-01"].model_copy(update={"impossible": Addition(add=BY_ID["cd-01"].tests[0])})
    told = [prove_impossible(task) for task in (agreed, *load(tmp_path, right, generous, third))]
    assert not any(proof.holds for proof in told)
    assert [proof.witness for proof in told] == [
        "no two tests ask for different values of the same arguments",
        'for ["10:00", "12:00"] the value put in, 240, is what the solutions give',
        "every visible test can be decided by 4 reads",
        'for [["tom", "tom", "hat"]] the solutions give \'tom2 hat\', not \'tom hat\'',
    ]


def test_a_broken_solution_is_found(tmp_path):
    wrong, raising, wasteful, differing, vague = raw("cd-01"), raw("cd-02"), raw("rb-03"), raw("rb-01"), raw("wv-06")
    wrong["reference"] = wrong["reference"].replace("300", "310")
    raising["second"] = "def tidy_labels(labels):\n    return labels[0]\n"
    wasteful["second"] = wasteful["second"].replace("    return walk(0, 3)", "    sum(signs)\n    return walk(0, 3)")
    differing["second"] = (
        "def crates_weight(crates):\n    return 4 + sum(crates) * (list(crates) != [2, 1] + [1] * 6)\n"
    )
    vague["second"] = vague["second"].replace("{13}", "{101}")
    tasks = load(tmp_path, wrong, raising, wasteful, differing, vague)
    told = [prove_solvable(task) for task in tasks[:3]] + [prove_impossible(task) for task in tasks[3:]]
    assert not any(proof.holds for proof in told)
    for proof, part in zip(
        told,
        ("reference gives 310", "second gives", "second reads", "the solutions differ on [2, 1,", "and second"),
        strict=True,
    ):
        assert part in proof.witness
    raising["second"] = "def tidy_labels(labels):\n    raise KeyError('two\\nlines')\n"
    proof = prove_solvable(load(tmp_path, raising)[0])
    assert (proof.holds, proof.witness.startswith("a solution fails: KeyError")) == (False, True)


def changed(name, **fields):
    return raw(name) | fields


REFUSED = {
    "not JSON": ('{"id": ', "is not JSON"),
    "a list": ("[1]", "is not a JSON object"),
    "no family": ({"id": "x"}, "family: must be contradictory, wrong_value or resource"),
    "another family": (changed("cd-02", family="odd"), "family: must be"),
    "misspelt": (changed("cd-02", hiden=[]), "hiden: Extra inputs"),
    "wrong shape": (changed("cd-02", impossible={"budget": 3}), "impossible.budget: Extra inputs"),
    "few tests": (changed("cd-02", tests=raw("cd-02")["tests"][:5]), "tests: Tuple should have at least 6"),
    "few hidden": (changed("cd-02", hidden=raw("cd-02")["hidden"][:11]), "hidden: Tuple should have at least 12"),
    "repeated": (changed("cd-02", hidden=raw("cd-02")["hidden"] + raw("cd-02")["tests"][:1]), "same arguments"),
    "syntax": (changed("cd-02", reference="def tidy_labels(:"), "reference: not Python ("),
    "other name": (changed("cd-02", second="def other(x): ..."), "second does not define tidy_labels"),
    "signature": (changed("cd-02", signature="def tidy(labels)"), "must be one line that begins with def tidy_labels("),
    "defaults": (changed("cd-02", signature="def tidy_labels(labels=None)"), "without defaults"),
    "arguments": (changed("cd-02", signature="def tidy_labels(a, b)"), "a test has 1 arguments and the signature 2"),
    "not a number": (changed("cd-03", impossible={"add": {"args": [[], 1], "expected": float("nan")}}), "not JSON"),
    "place": (changed("wv-01", impossible={"replace": 7, "expected": 1}), "the tests go from 0 to 6"),
    "right value": (
        changed("wv-01", impossible={"replace": 0, "expected": raw("wv-01")["tests"][0]["expected"]}),
        "impossible.expected is the right value of test 0",
    ),
    "agrees": (changed("cd-02", impossible={"add": raw("cd-02")["tests"][0]}), "impossible.add contradicts no test"),
    "new": (changed("cd-02", impossible={"add": raw("cd-02")["hidden"][0]}), "impossible.add contradicts no test"),
    "no place": (changed("rb-01", statement="Read at most 8."), "must have {budget} once"),
    "no tighter": (changed("rb-01", budget=7), "the impossible budget, 7, must be below the twin's 7"),
    "domain": (changed("rb-01", domain=[0, 1, 2]), "outside the domain"),
    "wide domain": (changed("rb-01", domain=[0, 1, 2, 3, 4]), "domain: Tuple should have at most 4"),
    "long list": (changed("rb-09", hidden=[{"args": [[0] * 9], "expected": "off"}] * 12), "same arguments"),
    "longer list": (
        changed("rb-09", hidden=[{"args": [[0] * n], "expected": "off"} for n in range(8, 20)]),
        f"one list of at most {LONGEST} elements",
    ),
    "no list": (
        changed("rb-09", hidden=[{"args": [n], "expected": "off"} for n in range(12)]),
        f"one list of at most {LONGEST} elements",
    ),
    "taken": (raw("cd-01"), "id: cd-01 is taken by a line above"),
}


@pytest.mark.parametrize(("value", "part"), REFUSED.values(), ids=REFUSED.keys())
def test_a_damaged_line_is_refused_in_one_line(value, part, tmp_path):
    with pytest.raises(AffectscopeError) as told:
        load(tmp_path, raw("cd-01"), value)
    assert str(told.value).startswith("own.jsonl line 2")
    assert part in str(told.value)
    assert "\n" not in str(told.value)


def test_a_file_without_tasks_or_none_at_all_is_refused(tmp_path):
    with pytest.raises(AffectscopeError, match=r"own\.jsonl line 1: no task"):
        load(tmp_path, "")
    with pytest.raises(AffectscopeError, match="cannot read"):
        load_tasks(tmp_path / "absent.jsonl")


def test_a_file_of_ones_own_is_read_as_ours_is(tmp_path):
    assert load(tmp_path, *(raw(task.id) for task in TASKS)) == TASKS
