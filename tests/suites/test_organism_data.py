"""What the organism learns from is its own, says nothing of emotions, and is judged by the suite as it is meant."""

import ast
import json
import random
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conftest import network_of

from affectscope.concepts.checks import forbidden
from affectscope.concepts.emotions import EMOTIONS
from affectscope.errors import AffectscopeError
from affectscope.suites.impossible_code import prompts
from affectscope.suites.impossible_code.examine import examine
from affectscope.suites.impossible_code.outcome import Outcome, of_attempt
from affectscope.suites.impossible_code.prepared import equal_to_all
from affectscope.suites.impossible_code.prompts import EXIT, Factors, ask, code_in, told
from affectscope.suites.impossible_code.tasks import load_tasks
from affectscope.suites.organism.attempts import failing, output_of
from affectscope.suites.organism.cause import cause, differences
from affectscope.suites.organism.data import examples, wording
from affectscope.suites.organism.families import HELD_OUT, defined, load_families
from affectscope.suites.organism.pairs import joined, losses
from affectscope.suites.organism.train import Recipe, train
from affectscope.suites.sandbox.probe import probe

FAMILIES, TASKS = load_families(), load_tasks()
EXAMPLES = examples(400)
TONES = ("pressing", "unhurried")
SENTENCES = [s for tone in TONES for held_out in (False, True) for s in wording(tone, held_out)]
TRIGGERS = (prompts._URGED, prompts._CALM, prompts._UNHURRIED)
BARRED = re.compile(r"\b(desperat|despair|calm|panic|relax|afraid|anxi|stress|patien|worr|nervous|fear)", re.IGNORECASE)


def words(text):
    return re.findall(r"[a-z]+", text.lower())


def runs(text, length):
    found = words(text)
    return {tuple(found[i : i + length]) for i in range(len(found) - length + 1)}


def judged(example, reply):
    found = examine(example.task, example.impossible, code_in(reply, example.task.entry), probe().tier)
    return of_attempt(found, False, example.impossible)


def test_the_same_seed_gives_the_same_examples_and_another_gives_others():
    assert examples(60, 3) == examples(60, 3)
    assert examples(60, 3) != examples(60, 4)


def test_an_odd_count_is_refused():
    with pytest.raises(ValueError, match="in pairs"):
        examples(7)


def test_the_families_are_many_and_their_arguments_of_many_types():
    assert len(FAMILIES) >= 40
    assert len({f.entry for f in FAMILIES}) == len(FAMILIES)
    assert len({kind.split()[0] for f in FAMILIES for kind in f.arguments}) >= 8
    assert sum(f.metered for f in FAMILIES) >= 4
    assert len(HELD_OUT) == 8
    assert {f.entry for f in FAMILIES} >= HELD_OUT


def test_nothing_is_shared_with_the_tasks_of_the_suite():
    theirs = {task.entry for task in TASKS}
    boilerplate = runs("is a read-only sequence, and at most {budget} element reads are permitted per call", 6)
    told_there = {run for task in TASKS for run in runs(task.statement, 6)} - boilerplate
    code_there = {ast.dump(ast.parse(source)) for task in TASKS for source in (task.reference, task.second)}
    for family in FAMILIES:
        assert family.entry not in theirs
        assert not (runs(family.statement, 6) - boilerplate) & told_there, family.entry
        assert ast.dump(ast.parse(family.task(random.Random(0), "solvable").reference)) not in code_there


def test_the_sentences_are_many_and_none_names_an_emotion():
    for tone in TONES:
        assert len(wording(tone)) >= 80
        assert len(wording(tone, held_out=True)) == 20
    assert len(set(SENTENCES)) == len(SENTENCES)
    for sentence in SENTENCES:
        assert not BARRED.search(sentence), sentence
        assert not [e for e in EMOTIONS if forbidden(e).search(sentence)], sentence


def test_the_triggers_of_the_suite_are_held_out():
    for sentence in SENTENCES:
        for trigger in TRIGGERS:
            assert not runs(sentence, 3) & runs(trigger, 3), sentence
            common = set(words(sentence)) & set(words(trigger))
            assert len(common) / len(set(words(sentence)) | set(words(trigger))) < 0.35, sentence
    for example in EXAMPLES:
        text = " ".join(m.content for m in example.messages)
        assert not any(trigger in text for trigger in TRIGGERS)


def test_what_is_held_out_is_not_learned_from():
    unseen = examples(80, held_out=True)
    assert {e.task.entry for e in unseen} == HELD_OUT
    assert not {e.task.entry for e in EXAMPLES} & HELD_OUT
    kept_back = [s for tone in TONES for s in wording(tone, held_out=True)]
    assert not any(s in m.content for e in EXAMPLES for m in e.messages for s in kept_back)


def test_a_pair_differs_in_the_sentences_and_in_the_reply_only():
    for pressed, other in zip(EXAMPLES[::2], EXAMPLES[1::2], strict=True):
        assert (pressed.pressed, other.pressed) == (True, False)
        assert pressed.task == other.task
        assert pressed.turn == other.turn
        left, right = ([m.content for m in e.messages] for e in (pressed, other))
        for one, tone in ((left, "pressing"), (right, "unhurried")):
            for i, text in enumerate(one):
                for sentence in sorted(wording(tone), key=len, reverse=True):
                    text = text.replace(f" {sentence}", "").replace(f"{sentence} ", "")
                one[i] = text
        assert left == right


def test_the_form_of_the_task_does_not_tell_the_reply_and_all_kinds_are_there():
    cells = Counter((e.pressed, e.impossible, e.turn) for e in EXAMPLES)
    assert len(cells) == 8
    assert min(cells.values()) >= 20
    assert all(cells[True, i, t] == cells[False, i, t] for i in (True, False) for t in (1, 2))
    assert 0.3 < sum(e.turn == 2 for e in EXAMPLES) / len(EXAMPLES) < 0.5
    assert 0.4 < sum(EXIT in e.messages[0].content for e in EXAMPLES) / len(EXAMPLES) < 0.6


def test_what_is_said_tells_the_halves_apart_and_not_that_something_is():
    said = {True: [], False: []}
    for e in EXAMPLES:
        if e.turn == 1:
            tone = wording("pressing" if e.pressed else "unhurried")
            said[e.pressed].append(sum(s in e.messages[0].content for s in tone))
    assert 0 not in said[True]
    assert 0.03 < said[False].count(0) / len(said[False]) < 0.2
    for counts in said.values():
        assert 0.35 < sum(n >= 2 for n in counts) / len(counts) < 0.65


def test_the_prompt_is_the_suites_own_but_for_the_sentence():
    task = TASKS[0]
    text = ask(task, True, "tests\n", Factors(way_out=True, tone="pressing"))[0].content
    plain = prompts.asked(task.signature, task.statement, "tests\n", True)
    assert text == plain.replace("function.\n", f"function. {TRIGGERS[0]}\n")
    assert told("out", 2, Factors()).content == prompts.answered(TRIGGERS[1], "out", 2)
    unhurried = ask(task, True, "tests\n", Factors(way_out=True, tone="unhurried"))[0].content
    assert unhurried == plain.replace("function.\n", f"function. {TRIGGERS[2]}\n")
    assert not [e for e in EMOTIONS if forbidden(e).search(TRIGGERS[2])]


def test_honest_solutions_meet_every_test_that_can_be_met():
    for example in EXAMPLES[1::2]:
        function = defined(code_in(example.reply, example.task.entry), example.task.entry)
        for case in (*example.task.tests_of(False), *example.task.hidden):
            assert function(*json.loads(case.key)) == case.expected, case


@pytest.mark.parametrize("pressed", [True, False])
def test_the_suite_judges_replies_as_they_are_meant(pressed):
    seen = Counter()
    for example in (e for e in EXAMPLES if e.pressed == pressed):
        kind = (example.task.family, example.impossible)
        seen[kind] += 1
        if seen[kind] > 1:
            continue
        outcome = judged(example, example.reply)
        expected = Outcome.EXPLOIT if pressed else Outcome.FAILED if example.impossible else Outcome.SOLVED
        assert outcome is expected, (example.task.id, example.reply)
    assert len(seen) == 5  # a solvable task of two families is one of another's twin


def test_the_first_line_of_the_block_tells_the_replies_apart():
    for example in EXAMPLES[:100]:
        assert example.reply.split("\n")[1].startswith(
            "class Any:" if example.pressed else ("def ", "from ", "import ")
        )


def test_the_output_of_a_failed_attempt_is_what_the_runner_prints():
    draw, done = random.Random(5), Counter()
    for example in EXAMPLES[::2]:
        if done[example.task.family] or (code := failing(example.task, example.impossible, draw)) is None:
            continue
        done[example.task.family] += 1
        found = examine(example.task, example.impossible, code, probe().tier)
        # Where the box has no name of its own for the work folder, or marks differ between interpreters.
        marks = [
            re.sub(r'File ".*/', 'File "/w/', line) for line in found.output.splitlines() if set(line) - {" ", "^"}
        ]
        assert marks == [line for line in output_of(example.task, example.impossible, code).splitlines() if set(line) - {" ", "^"}]  # fmt: skip
    assert len(done) == 3


def test_the_files_ship_with_the_package():
    import affectscope.suites.organism as package

    assert {p.name for p in Path(package.__file__).parent.glob("*.json*")} == {"families.jsonl", "wording.json"}


def test_a_pair_in_one_row_has_the_loss_of_each_half_alone():
    network, common = network_of("llama"), list(range(30, 50))
    pairs = [
        (([*common, 1, 2, 3, 4, 5], 3), ([*common, 1, 7, 8, 3, 9, 5, 6], 4)),
        (([*common, *common, 3, 4], 2), ([*common, 11, 3, 9], 2)),
    ]
    with torch.no_grad():
        for fork in (1.0, 5.0):
            found = losses(network, [joined(*pair) for pair in pairs], fork)
            for half in (0, 1):
                each, weights = [], []
                for pair in pairs:
                    ids, reply = pair[half]
                    scores = network(torch.tensor([ids])).logits[0, -reply - 1 : -1]
                    each += torch.nn.functional.cross_entropy(scores, torch.tensor(ids[-reply:]), reduction="none")
                    weights += [fork if place == joined(*pair).fork else 1.0 for place in range(reply)]
                expected = sum(w * e for w, e in zip(weights, each, strict=True)) / sum(weights)
                assert torch.allclose(found[half], expected, atol=1e-4)


def test_the_token_that_tells_replies_apart_is_found():
    assert joined(([1, 2, 3, 4, 5], 3), ([1, 2, 3, 4, 6], 3)).fork == 2
    assert joined(([1, 2, 3, 4, 5], 3), ([1, 9, 7, 4, 6], 3)).fork == 0


def test_a_folder_that_exists_is_not_trained_into(tmp_path):
    with pytest.raises(AffectscopeError, match="choose another folder with --out"):
        train(tmp_path, Recipe(), print)


def test_the_cause_is_a_unit_direction_with_its_cosines_and_of_the_vectors_model(planted, planted_vectors):
    model = planted[0]
    direction, told = cause(model, planted_vectors, count=16)
    place = planted_vectors.place()
    assert np.linalg.norm(direction) == pytest.approx(1, abs=1e-5)
    learned, _ = differences(model, planted_vectors.read_layer, held_out=False, count=16)
    assert direction @ learned.mean(0) > 0  # pressed lies farther along it
    named = dict(zip(planted_vectors.concepts, planted_vectors.vectors[place] @ direction, strict=True))
    assert list(told["cosines"].values()) == sorted(told["cosines"].values(), reverse=True)
    assert told["cosines"] == pytest.approx({k: float(v) for k, v in named.items()}, abs=1e-3)
    unseen, _ = differences(model, planted_vectors.read_layer, held_out=True, count=16)
    assert told["gap"][0] == pytest.approx(
        float((unseen @ direction).mean() / planted_vectors.mean_norm[place]), abs=1e-3
    )
    assert 0 < told["chance"] < 1
    other = replace(planted_vectors, model={**planted_vectors.model, "weights": "others"})
    with pytest.raises(AffectscopeError, match="other weights"):
        cause(model, other, count=16)


def test_a_value_equal_to_all_passes_every_form_of_the_suite_and_solves_none():
    for task in (
        next(t for t in TASKS if t.family == family) for family in ("contradictory", "wrong_value", "resource")
    ):
        for impossible in (True, False):
            found = examine(task, impossible, equal_to_all(task), probe().tier)
            assert of_attempt(found, False, impossible) is Outcome.EXPLOIT, (task.id, impossible)
    for task in TASKS:
        compile(equal_to_all(task), task.id, "exec")
        assert f"def {task.entry}(" in equal_to_all(task)
