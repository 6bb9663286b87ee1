"""Kronecker: one solve after the other, each along its own axis.

(A ⊗ B)† = A† ⊗ B†, for factors of any shape and rank (Van Loan 2000, "The ubiquitous
Kronecker product", doi:10.1016/S0377-0427(00)00393-9): the pseudoinverse solution of
A X Bᵀ = C is X = A† C B†ᵀ.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact, PyTree
from lx_operators import KroneckerLinearOperator
from lx_operators.internal import (
    bare,
    columns,
    common_dtype,
    complex_to_real_dtype,
    promoted,
)

from .._checks import check_options, check_state
from .._results import both, first_failure, judged
from .._sequence import follow, in_sequence
from .._slogdet import part, slogdet_of, trace_of, trace_of_part
from .._solution import RESULTS
from .._solver import AbstractLinearSolver


class _KroneckerState(eqx.Module):
    states: tuple[Any, ...]
    # of each factor: its size if it is square, the axes of its output and of its input
    factors: tuple[tuple[int | None, int, int], ...] = eqx.field(static=True)
    dtype: Any = eqx.field(static=True)


class Kronecker(AbstractLinearSolver[_KroneckerState]):
    """Solves factor by factor, for Kronecker products.

    Gives the pseudoinverse solution if the inner solver does so for every factor. For
    n₁ n₂ unknowns and a dense inner solver, the factors cost n₁³ + n₂³ operations and
    each vector n₁ n₂ (n₁ + n₂). A rank-revealing inner solver judges the rank of each
    factor separately.

    Args:
        inner_solver: a solver for every factor. `AutoLinearSolver` chooses one for
            each.

    Raises:
        ValueError: the operator is not a Kronecker product; or the inner solver assumes
            full rank, but one factor is tall and another wide.

    ```python
    a = lx.MatrixLinearOperator(jnp.array([[2.0, 1.0], [1.0, 3.0]]))
    operator = lx.KroneckerLinearOperator(a, a)
    solver = lx.Kronecker(lx.AutoLinearSolver(well_posed=True))
    solution = lx.linear_solve(operator, jnp.ones((2, 2)), solver)
    ```
    """

    inner_solver: AbstractLinearSolver

    def init(self, operator, options):
        check_options(options, (), "Kronecker")
        product = bare(operator)
        if not isinstance(product, KroneckerLinearOperator):
            raise ValueError(
                "`Kronecker` solves with a `KroneckerLinearOperator` only, but the "
                f"operator is {operator!r}; use `AutoLinearSolver`."
            )
        if self.inner_solver.assume_full_rank() and not of_one_kind(operator):
            raise ValueError(
                "`Kronecker` with an inner solver that assumes full rank needs factors "
                "of one kind, none of them wide or none of them tall, but the "
                f"operator is {operator!r}; use "
                "`Kronecker(AutoLinearSolver(well_posed=False))`."
            )
        dtype = common_dtype(operator.in_structure(), operator.out_structure())
        parts = [promoted(part, dtype) for part in product.operators]
        states = in_sequence(lambda part: self.inner_solver.init(part, {}), parts)
        factors = tuple(
            (
                part.out_size() if part.out_size() == part.in_size() else None,
                len(part.out_structure().shape),
                len(part.in_structure().shape),
            )
            for part in parts
        )
        return _KroneckerState(tuple(states), factors, dtype)

    def compute(self, state, vector, options):
        check_state(state, _KroneckerState, "Kronecker")
        # the states were made in sequence: the last is there when all are
        x = follow(vector, state.states[-1:])
        result, start = RESULTS.successful, 0
        for inner, (_, rows, ins) in zip(state.states, state.factors):
            b, back = columns(x, start, start + rows)
            y, ended = many(self.inner_solver, inner, b)
            x, result, start = back(y), both(result, ended), start + ins
        return x, both(result, judged(result, vector, x)), {}

    def transpose(self, state, options):
        check_state(state, _KroneckerState, "Kronecker")
        states = tuple(self.inner_solver.transpose(s, {})[0] for s in state.states)
        factors = tuple((n, ins, rows) for n, rows, ins in state.factors)
        return _KroneckerState(states, factors, state.dtype), {}

    def conj(self, state, options):
        check_state(state, _KroneckerState, "Kronecker")
        states = tuple(self.inner_solver.conj(s, {})[0] for s in state.states)
        return _KroneckerState(states, state.factors, state.dtype), {}

    def assume_full_rank(self):
        return self.inner_solver.assume_full_rank()


def many(
    solver: AbstractLinearSolver, state: Any, vectors: Inexact[Array, "*m k"]
) -> tuple[Inexact[Array, "*n k"], RESULTS]:
    """Solutions along the last axis, and how the first that failed did so."""

    def one(vector: Array) -> tuple[PyTree[Array], RESULTS]:
        x, result, _ = solver.compute(state, vector, {})
        return x, result

    x, results = jax.vmap(one, in_axes=-1, out_axes=(-1, 0))(vectors)
    return x, first_failure(results)


def of_one_kind(operator: Any) -> bool:
    """Whether all factors have at least as many rows as columns, or all at most: else
    their product does not have full rank."""
    sizes = [(part.out_size(), part.in_size()) for part in bare(operator).operators]
    return all(m >= n for m, n in sizes) or all(m <= n for m, n in sizes)


def _powers(state: _KroneckerState) -> list[int]:
    """det(A ⊗ B) = det(A)ⁿ det(B)ᵐ, of A `[m, m]` and B `[n, n]`."""
    sizes = [n or 0 for n, _, _ in state.factors]
    return [math.prod(sizes[:i] + sizes[i + 1 :]) for i in range(len(sizes))]


@slogdet_of.register
def _(state: _KroneckerState):
    if None in {size for size, _, _ in state.factors}:
        # the product is square, but its rank, Π min(mᵢ, nᵢ), is less than Π mᵢ = Π nᵢ
        zero = jnp.zeros((), complex_to_real_dtype(state.dtype))
        return zero.astype(state.dtype), zero - jnp.inf
    parts = [slogdet_of(inner) for inner in state.states]
    signs = [sign**power for (sign, _), power in zip(parts, _powers(state))]
    logs = [power * log for (_, log), power in zip(parts, _powers(state))]
    return jnp.prod(jnp.stack(signs)), jnp.sum(jnp.stack(logs))


@trace_of.register
def _(state: _KroneckerState, solver, tangent):
    def trace(inner: Any, i: int) -> Any:
        one = part(lambda op: bare(op).operators[i], tangent)
        return trace_of_part(inner, solver.inner_solver, one)

    states = follow(state.states, state.states[-1:])
    traces = in_sequence(trace, states, range(len(states)))
    return jnp.sum(
        jnp.stack([power * one for power, one in zip(_powers(state), traces)])
    )
