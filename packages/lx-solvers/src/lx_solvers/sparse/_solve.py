"""What the sparse direct solvers share: states, solves, and the check of solutions.

A state holds the matrix, as arrays, and a digest of it, by which its factors are found
on the host. So it may be copied, saved, sent to another process, or outlive the
factors: these are then computed again.

Whatever the host says of a solution x, its residual is computed here, by the sparse
product. A solve is successful if x has a backward error of a few roundings, normwise or
componentwise (Oettli and Prager 1964, doi:10.1007/BF01386090),

    max |r|ᵢ / (max (|A||x|)ᵢ + max |b|ᵢ)   or   max |r|ᵢ / (|A||x| + |b|)ᵢ,

and A is not singular to working precision.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Inexact, Int, Real, UInt32
from lx_operators import (
    AbstractLinearOperator,
    ColouredPattern,
    SparseLinearOperator,
    conj,
)
from lx_operators.internal import PackedStructures, pack_structures

from .._checks import check_square
from .._gaussian import check_positive, inverse_diagonal_of, root_of, turned_root
from .._results import choose, named, succeeded
from .._scaling import largest
from .._slogdet import slogdet_of, tangent_of, trace_of
from .._solution import RESULTS
from ..direct import _views as views
from ._backends import chosen_backend
from ._matrix import sparse_matrix, values_of
from ._protocol import Kind, SparseBackend, Task
from ._systems import tolerance


def host_primitives() -> Any:
    """Imported where they are needed, and SciPy with them: a solver can be named, or
    considered and not chosen, without them."""
    from . import _primitives

    return _primitives


def coloured(sparsity: Any) -> ColouredPattern | None:
    """The solver's argument as it is kept: coloured once, and traced as arrays."""
    if sparsity is None or isinstance(sparsity, ColouredPattern):
        return sparsity
    return ColouredPattern(sparsity)


class SparseState(eqx.Module):
    """A matrix, and what the host found out about it."""

    matrix: SparseLinearOperator  # [n, n], in the dtype of the factors
    digest: UInt32[Array, " 4"]
    reciprocal_condition: Real[Array, ""]
    inertia: Int[Array, " 3"]
    unmatched: Int[Array, " 2"]
    verdict: RESULTS
    packed: PackedStructures
    task: Task = eqx.field(static=True)
    view: views.View = eqx.field(static=True, default=views.View())


def factorised(
    operator: AbstractLinearOperator,
    backend: str | SparseBackend | None,
    sparsity: Any,
    kind: Kind,
    solver: str,
    negative: bool = False,
) -> SparseState:
    """The state of a square operator.

    Args:
        operator: A.
        backend, sparsity: the solver's.
        kind: what is known of A, or of -A.
        solver: for the text of errors.
        negative: whether -A is what is definite.
    """
    check_square(operator, solver, "SparseLeastSquares")
    matrix = sparse_matrix(operator, sparsity, solver)
    chosen = chosen_backend(backend, kind, matrix.values.dtype, solver)
    task = Task(matrix.pattern.shape[0], kind, negative, chosen)
    pattern = matrix.pattern
    arrays = pattern.rows, pattern.columns, matrix.values
    primitives = host_primitives()
    out = primitives.factor_p.bind(*arrays, task=task)
    digest, number, rcond, inertia, unmatched = out
    packed = pack_structures(operator)
    return SparseState(
        matrix, digest, rcond, inertia, unmatched, named(number), packed, task
    )


def solved(state: SparseState, vector: Any) -> tuple[Any, RESULTS, dict[str, Any]]:
    """The result of a solver's `compute`."""
    told: list[Any] = []

    def solve_with(b: Array, adjoint: bool) -> Array:
        x, result, error, steps = checked_solve(state, b, adjoint)
        told.extend((result, error, steps))
        return x

    x, result = views.solve(state, vector, state.matrix.values.dtype, solve_with)
    own, error, steps = told
    result = choose(succeeded(result), own, result)
    row, column = (state.unmatched[i] for i in (0, 1))
    if state.view.adjoint:
        row, column = column, row
    stats = {
        "reciprocal_condition": state.reciprocal_condition,
        "backward_error": error,
        "refinement_steps": steps,
        "unmatched_row": row,
        "unmatched_column": column,
    }
    return x, result, stats


def checked_solve(
    state: SparseState, b: Inexact[Array, " n"], adjoint: bool
) -> tuple[Inexact[Array, " n"], RESULTS, Real[Array, ""], Int[Array, ""]]:
    """F⁻¹ b or F⁻ᴴ b, how that went, the backward error and the steps of refinement."""
    matrix = state.matrix
    pattern = matrix.pattern
    primitives, arrays = host_primitives(), _operands(state)
    x, number, steps = primitives.solve_p.bind(
        *arrays, b[None], task=state.task, adjoint=adjoint
    )
    x, number, steps = x[0], number[0], steps[0]
    sizes = SparseLinearOperator(jnp.abs(matrix.values), pattern)
    if adjoint:
        matrix, sizes = conj(matrix.T), sizes.transpose()
    error = _backward_error(matrix, sizes, x, b)
    limit = tolerance(matrix.pattern.longest_row, b.dtype)
    # NaN is no success
    stable = choose(error <= limit, RESULTS.successful, RESULTS.unstable)
    result = named(number)
    return x, choose(succeeded(result), stable, result), error, steps


def _backward_error(
    matrix: AbstractLinearOperator,
    sizes: AbstractLinearOperator,
    x: Inexact[Array, " n"],
    b: Inexact[Array, " n"],
) -> Real[Array, ""]:
    """The smaller of the normwise and the componentwise backward error."""
    r = jnp.abs(b - matrix.mv(x))
    b = jnp.abs(b)
    each = sizes.mv(jnp.abs(x))
    normwise = _ratio(largest(r), largest(each) + largest(b))
    componentwise = largest(_ratio(r, each + b))
    return jnp.where(componentwise < normwise, componentwise, normwise)


def _ratio(x: Array, y: Array) -> Array:
    return jnp.where(x == 0, x, x / jnp.where(y == 0, jnp.ones_like(y), y))


def _operands(state: SparseState) -> tuple[Array, ...]:
    """The operands of the primitives: the digest and the matrix."""
    pattern = state.matrix.pattern
    return state.digest, pattern.rows, pattern.columns, state.matrix.values


@slogdet_of.register
def _(state: SparseState):
    primitives, arrays = host_primitives(), _operands(state)
    sign, log = primitives.determinant_p.bind(*arrays, task=state.task)
    turned = state.view.turned and jnp.iscomplexobj(sign)
    return (sign.conj() if turned else sign), log


@trace_of.register
def _(state: SparseState, solver, tangent):
    """Σ (A⁻¹)[j, i] dA[i, j] over the entries."""
    if state.view != views.View():
        return None
    primitives, arrays = host_primitives(), _operands(state)
    (inverse,) = primitives.inverse_p.bind(*arrays, task=state.task, diagonal=False)

    def values(operator: AbstractLinearOperator) -> Array:
        return values_of(operator, solver).astype(inverse.dtype)

    return jnp.sum(inverse * tangent_of(values, tangent))


@inverse_diagonal_of.register
def _(state: SparseState):
    primitives, arrays = host_primitives(), _operands(state)
    (found,) = primitives.inverse_p.bind(*arrays, task=state.task, diagonal=True)
    turned = state.view.turned and jnp.iscomplexobj(found)
    return found.conj() if turned else found


@root_of.register
def _(state: SparseState, z):
    if state.task.kind != "definite":
        raise ValueError(
            "a sparse operator has a square root by `SparseCholesky` only; use it, and "
            "tag the operator `positive_semidefinite_tag`."
        )
    check_positive(state.task.negative)
    primitives, arrays = host_primitives(), _operands(state)

    def multiplied(z: Array) -> Array:
        return primitives.root_p.bind(*arrays, z[None], task=state.task)[0][0]

    return turned_root(multiplied, state.view.turned, z)
