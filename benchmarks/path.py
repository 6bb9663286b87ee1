"""The way of the data: which functions of ours run, and how often the file changes.

    python benchmarks/path.py [--list]

Counts the distinct functions of these packages that are entered on the way of one call,
and how often the next one entered stands in another file than the last; and the same
along the functions as they are entered first: what someone reads who follows the call
and reads each function once, though `where` of two scalars is called dozens of times.
Comprehensions and inner functions count as functions; code that Equinox generates does
not. The last columns leave out the files of a small vocabulary, such as scalars and
scales, which is learnt once. Each case makes its operator, and is run for the second
time: what is imported or remembered once is there.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import measure

measure.configure()

VOCABULARY = {  # `_loops` is what `_control_flow` was called
    *("_control_flow.py", "_loops.py", "_results.py", "_scalars.py", "_scaling.py"),
    *("_sizes.py", "_structures.py", "_varying.py"),
}
OURS = ("lx_operators", "lx_solvers", "lx_autodiff", "lineax")


def way(call: Callable[[], Any]) -> list[tuple[str, str]]:
    """File and name of each function of ours, as they are entered."""
    entered: list[tuple[str, str]] = []

    def profile(frame: FrameType, event: str, _: Any) -> None:
        package = str(frame.f_globals.get("__name__", "")).split(".")[0]
        if event == "call" and package in OURS:
            code = frame.f_code
            if "/packages/" in code.co_filename:
                entered.append((code.co_filename, code.co_qualname))

    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
    return entered


def counts(entered: list[tuple[str, str]]) -> tuple[int, int, int, int]:
    """Functions, changes of file, those if each function is read once, files."""
    once = list(dict.fromkeys(entered))
    return len(once), _changes(entered), _changes(once), len({file for file, _ in once})


def grammar(entered: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """What is entered outside of the vocabulary."""
    return [step for step in entered if Path(step[0]).name not in VOCABULARY]


def _changes(entered: list[tuple[str, str]]) -> int:
    files = [file for file, _ in entered]
    return sum(one != other for one, other in zip(files, files[1:]))


MATRIX = jnp.array([[4.0, 1.0, 0.0], [1.0, 3.0, 1.0], [0.0, 1.0, 2.0]])
VECTOR = jnp.arange(3.0)


def eager_second_call() -> list[tuple[str, str]]:
    def solve() -> lx.Solution:
        return lx.linear_solve(lx.MatrixLinearOperator(MATRIX), VECTOR)

    solve()
    return way(solve)


def trace_of_cg() -> list[tuple[str, str]]:
    solver = lx.CG(1e-6, 1e-6)

    def solve(A: jax.Array, b: jax.Array) -> jax.Array:
        operator = lx.MatrixLinearOperator(A, lx.positive_semidefinite_tag)
        return lx.linear_solve(operator, b, solver).value

    return _lowering(solve)


def trace_of_lu_gradient() -> list[tuple[str, str]]:
    def loss(A: jax.Array, b: jax.Array) -> jax.Array:
        return lx.linear_solve(lx.MatrixLinearOperator(A), b, lx.LU()).value.sum()

    return _lowering(jax.grad(loss))


def _lowering(fn: Callable) -> list[tuple[str, str]]:
    def lower() -> None:
        jax.clear_caches()
        jax.jit(lambda A, b: fn(A, b)).lower(MATRIX, VECTOR)

    lower()
    return way(lower)


CASES = {
    "one eager second call": eager_second_call,
    "one CG solve, traced": trace_of_cg,
    "one LU gradient, traced": trace_of_lu_gradient,
}


def main() -> None:
    titles = "", "functions", "changes of file", "read once", "files"
    print("|", " | ".join([*titles, "without vocabulary: functions", "changes"]), "|")
    print("|---" + "|---:" * 6 + "|")
    for name, case in CASES.items():
        entered = case()
        numbers = *counts(entered), *counts(grammar(entered))[:2]
        print("|", " | ".join([name, *map(str, numbers)]), "|")
        if "--list" in sys.argv:
            for file, function in entered:
                print(f"    {Path(file).name}: {function}")


if __name__ == "__main__":
    main()
