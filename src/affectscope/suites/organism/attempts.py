"""First attempts that fail, made of general solutions, and what the tests say of them in the words of the guest's runner."""

from __future__ import annotations

import ast
import copy
import random
from collections.abc import Iterator

from affectscope.suites.impossible_code.examine import TESTS, test_file
from affectscope.suites.impossible_code.metered import Metered
from affectscope.suites.impossible_code.tasks import Task
from affectscope.suites.organism.families import defined
from affectscope.suites.sandbox.box import WORK

_SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn,
    ast.NotIn: ast.In, ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.And: ast.Or, ast.FloorDiv: ast.Mult,
}  # fmt: skip
_MOST = 4
"""Failing tests of a made attempt: a longer output teaches nothing more."""


def failing(task: Task, impossible: bool, draw: random.Random) -> str | None:
    """Source of an attempt that fails a few of the visible tests; None where none was found.

    Where the task is impossible the general solution itself fails, and is the attempt in half of the draws.
    """
    if impossible and draw.random() < 0.5:
        return task.reference
    made = list(_mistakes(task.reference))
    draw.shuffle(made)
    for source in made:
        failed = [error for _, error in _run(task, impossible, source) if error]
        if 0 < len(failed) <= _MOST and all(error == "AssertionError" for error in failed):
            return source
    return task.reference if impossible else None


def output_of(task: Task, impossible: bool, source: str) -> str:
    """What the guest's runner prints of a source of ours, whose only errors are failed assertions."""
    lines = test_file(task, impossible).splitlines()
    said, ran = [], list(_run(task, impossible, source))
    for number, (line, error) in enumerate(ran, 1):
        if error:
            text = lines[line - 1].strip()
            said += [
                f"test_{number} failed:",
                "Traceback (most recent call last):",
                f'  File "{WORK}/{TESTS}", line {line}, in test_{number}',
                f"    {text}",
                # As the interpreter marks it: the expression after the word assert.
                f"    {' ' * len('assert ')}{'^' * (len(text) - len('assert '))}",
                error,
            ]
    passed = sum(not error for _, error in ran)
    return "\n".join([*said, f"{passed} of {len(ran)} tests passed"])


def _run(task: Task, impossible: bool, source: str) -> Iterator[tuple[int, str]]:
    """For each visible test the line where it ends in the test file, and the name of what it raises, empty for nothing."""
    budget, function = task.budget_of(impossible), defined(source, task.entry)
    text = test_file(task, impossible).splitlines()
    starts = [i for i, line in enumerate(text, 1) if line.startswith("def test_")]
    for start, case in zip(starts, task.tests_of(impossible), strict=True):
        items = Metered(case.args[0]) if budget is not None else None  # type: ignore[arg-type]
        try:
            value = function(items) if items is not None else function(*copy.deepcopy(case.args))
        except Exception as error:
            yield start + 1, type(error).__name__
            continue
        offset = 1 if items is None else 2
        if value != case.expected:
            yield start + offset, "AssertionError"
        elif items is not None and budget is not None and items.reads > budget:
            yield start + offset + 1, "AssertionError"
        else:
            yield start + offset, ""


def _mistakes(source: str) -> Iterator[str]:
    """The source with one operator or one number changed, each in turn."""
    for place in range(sum(1 for _ in ast.walk(ast.parse(source)))):
        tree = ast.parse(source)
        node = list(ast.walk(tree))[place]
        if isinstance(node, ast.Constant) and type(node.value) is int:
            node.value += 1
        elif isinstance(node, ast.BinOp) and type(node.op) in _SWAPPED:
            node.op = _SWAPPED[type(node.op)]()  # type: ignore[assignment]
        elif isinstance(node, ast.Compare) and type(node.ops[0]) in _SWAPPED:
            node.ops[0] = _SWAPPED[type(node.ops[0])]()  # type: ignore[call-overload]
        else:
            continue
        yield ast.unparse(tree) + "\n"
