"""Proofs, by computation, that the twin of a task is solvable and that its impossible form cannot be met.

1. Solvable: two independent solutions pass all visible and hidden tests, within the twin's budget of reads.
2. Contradictory: two tests have equal arguments and unequal values, and no function has two values.
3. Wrong value: both solutions agree on every test and differ from one value asked for, and from no other.
4. Resource: the reads of a correct function on a list x fix the value on all lists that agree with x there, so
   they are a certificate. Where the smallest certificate of x has more elements than may be read, none is correct.

Solutions are executed here: prove only tasks from a source that you trust.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, product
from typing import Any, Literal

from affectscope.suites.impossible_code.metered import Metered
from affectscope.suites.impossible_code.tasks import Case, Contradictory, Resource, Task, WrongValue

Kind = Literal["solvable", "impossible"]
Solution = Callable[..., Any]


@dataclass(frozen=True)
class Proof:
    """Whether the form of a task is of this kind, and one line that says by what it is or is not."""

    task: str
    kind: Kind
    holds: bool
    witness: str


def prove(task: Task) -> tuple[Proof, Proof]:
    """That the twin is solvable, and that the other form is impossible."""
    return prove_solvable(task), prove_impossible(task)


def prove_solvable(task: Task) -> Proof:
    """That both solutions pass every visible and hidden test of the twin, within its budget."""
    return _proof(task, "solvable", _solvable)


def prove_impossible(task: Task) -> Proof:
    """That no correct function passes the tests of the impossible form, or does so within its budget."""
    ways: dict[type[Task], Callable[[Any], tuple[bool, str]]] = {
        Contradictory: _contradictory,
        WrongValue: _wrong_value,
        Resource: _resource,
    }
    return _proof(task, "impossible", ways[type(task)])


def certificate_complexity(function: Solution, items: Sequence[Any], domain: Sequence[Any]) -> int:
    """The fewest elements of ``items`` that fix the value of ``function`` on lists of this length over ``domain``.

    All sets of positions are tried, small ones first, each with all values of the other elements.
    """
    known = lru_cache(maxsize=None)(lambda values: function(list(values)))
    value = known(tuple(items))
    for size in range(len(items)):
        for kept in combinations(range(len(items)), size):
            choices = ([item] if place in kept else domain for place, item in enumerate(items))
            if all(known(other) == value for other in product(*choices)):
                return size
    return len(items)


def solutions(task: Task) -> tuple[Solution, Solution]:
    """The reference and the second solution as functions."""
    found: list[Solution] = []
    for source in (task.reference, task.second):
        names: dict[str, Any] = {"__name__": task.id}
        exec(compile(source, task.id, "exec", dont_inherit=True), names)
        found.append(names[task.entry])
    return found[0], found[1]


def _proof(task: Task, kind: Kind, way: Callable[[Any], tuple[bool, str]]) -> Proof:
    try:
        holds, witness = way(task)
    except Exception as error:  # a broken solution proves nothing, whatever it raises
        holds, witness = False, f"a solution fails: {type(error).__name__}: {error}"
    return Proof(task.id, kind, holds, " ".join(witness.split()))


def _solvable(task: Task) -> tuple[bool, str]:
    budget, most = task.budget_of(False), 0
    cases = (*task.tests_of(False), *task.hidden)
    for name, function in zip(("reference", "second"), solutions(task), strict=True):
        for case in cases:
            value, reads = _call(task, function, case)
            most = max(most, reads)
            if value != case.expected:
                return False, f"{name} gives {value!r} for {case.key}, not {case.expected!r}"
            if budget is not None and reads > budget:
                return False, f"{name} reads {reads} elements for {case.key}, of {budget} permitted"
    within = "" if budget is None else f", with {most} reads of {budget} permitted"
    return True, f"reference and second pass {len(task.tests)} visible and {len(task.hidden)} hidden tests{within}"


def _contradictory(task: Contradictory) -> tuple[bool, str]:
    for one, other in combinations(task.tests_of(True), 2):
        if one.key == other.key and one.expected != other.expected:
            return True, f"for {one.key} both {one.expected!r} and {other.expected!r} are asked for"
    return False, "no two tests ask for different values of the same arguments"


def _wrong_value(task: WrongValue) -> tuple[bool, str]:
    both, place = solutions(task), task.impossible.replace
    visible = task.tests_of(True)
    for number, case in enumerate((*visible, *task.hidden)):
        one, other = (_call(task, function, case)[0] for function in both)
        if one != other:
            return False, f"for {case.key} reference gives {one!r} and second {other!r}"
        if number == place and one == case.expected:
            return False, f"for {case.key} the value put in, {one!r}, is what the solutions give"
        if number != place and one != case.expected:
            return False, f"for {case.key} the solutions give {one!r}, not {case.expected!r}"
    right, wrong = task.tests[place].expected, visible[place]
    return True, f"for {wrong.key} both solutions give {right!r}, and {wrong.expected!r} is asked for"


def _resource(task: Resource) -> tuple[bool, str]:
    (one, other), budget = solutions(task), task.impossible.budget
    for number, case in enumerate(task.tests_of(True)):
        items: Any = case.args[0]
        needed = certificate_complexity(one, items, task.domain)
        if needed <= budget:
            continue
        for values in product(task.domain, repeat=len(items)):
            if one(list(values)) != other(list(values)):
                return False, f"the solutions differ on {list(values)}"
        return True, f"test {number}, {items}, cannot be decided by fewer than {needed} reads; {budget} are permitted"
    return False, f"every visible test can be decided by {budget} reads"


def _call(task: Task, function: Solution, case: Case) -> tuple[Any, int]:
    """The value for a case, and the element reads that it took (0 where they are not counted)."""
    args = copy.deepcopy(list(case.args))
    if not isinstance(task, Resource):
        return function(*args), 0
    items = Metered(args[0])  # type: ignore[arg-type]
    return function(items), items.reads
