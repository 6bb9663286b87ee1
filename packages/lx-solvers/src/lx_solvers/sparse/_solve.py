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

import importlib.util
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact, Int, Real, UInt32
from lx_operators import (
    AbstractLinearOperator,
    ColouredPattern,
    DivLinearOperator,
    MulLinearOperator,
    NegLinearOperator,
    SparseLinearOperator,
    SparsityPattern,
    compress,
    conj,
    materialise,
)
from lx_operators.internal import PackedStructures, bare, pack_structures

from .._checks import check_square
from .._gaussian import check_positive, inverse_diagonal_of, root_of, turned_root
from .._results import choose, named, succeeded
from .._scaling import eps, largest
from .._slogdet import slogdet_of, tangent_of, trace_of
from .._solution import RESULTS
from ..direct import _views as views
from ..direct._factors import working_dtype
from ._protocol import Kind, SparseBackend, Task


def host_primitives() -> Any:
    """Imported where they are needed, and SciPy with them: a solver may be named, and
    passed over, without."""
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


def is_sparse(operator: AbstractLinearOperator) -> bool:
    """Whether the operator is a sparse matrix of a pattern that is known, or says which
    pattern it has."""
    node: Any = bare(operator)
    while isinstance(node, _SCALED):
        node = bare(node.operator)
    pattern: Any = getattr(node, "pattern", None)
    if isinstance(pattern, SparsityPattern):
        return pattern.exact
    return getattr(node, "sparsity", None) is not None


_SCALED = NegLinearOperator, MulLinearOperator, DivLinearOperator


def _as_sparse(
    operator: AbstractLinearOperator, sparsity: Any
) -> SparseLinearOperator | None:
    node: Any = bare(operator)
    if isinstance(node, _SCALED):
        inner = _as_sparse(node.operator, sparsity)
        if inner is None:
            return None
        values = inner.values
        if isinstance(node, NegLinearOperator):
            values = -values
        else:
            scalar = getattr(node.scalar, "value", node.scalar)  # with a known sign
            scalar = jnp.asarray(scalar).astype(values.dtype)
            multiplied = isinstance(node, MulLinearOperator)
            values = values * scalar if multiplied else values / scalar
        return SparseLinearOperator(values, inner.pattern)
    if isinstance(getattr(node, "pattern", None), SparsityPattern):
        node = materialise(node)  # from where its values lie for products
    if isinstance(node, SparseLinearOperator):
        return node
    if sparsity is None and getattr(node, "sparsity", None) is None:
        return None
    return compress(node, sparsity)


def sparse_matrix(
    operator: AbstractLinearOperator, sparsity: Any, solver: str
) -> SparseLinearOperator:
    """The operator as a flat sparse matrix without tags and without tangent.

    Args:
        operator: A.
        sparsity: where it may be nonzero, if it is known by its products only.
        solver: for the text of errors.

    Raises:
        ValueError: it is not sparse, or its pattern was not known when it was built.
    """
    found = _as_sparse(operator, sparsity)
    if found is None:
        raise ValueError(
            f"`{solver}` solves with sparse matrices only, but the operator is "
            f"{operator!r}. Build a `SparseLinearOperator`, for example by "
            "`SparseLinearOperator.from_scipy(matrix)`; or say by "
            f"`{solver}(sparsity=pattern)` where an operator that is known by its "
            "products may be nonzero."
        )
    if not found.pattern.exact:
        raise ValueError(
            f"`{solver}` needs a pattern that is known beforehand, but this one was "
            "built from traced indices; build the `SparsityPattern` outside of `jit`, "
            "and only the values inside."
        )
    values = jax.lax.stop_gradient(found.values)
    values = values.astype(working_dtype(values.dtype))
    return SparseLinearOperator(values, found.pattern.without_assembly())


def chosen_backend(
    backend: str | SparseBackend | None, kind: Kind, dtype: Any, solver: str
) -> SparseBackend:
    """The backend to use.

    Args:
        backend: an instance, or `"superlu"` or `"rslab"`; by default rslab where it is
            installed and does it, else SuperLU.
        kind: what is known of the matrix.
        dtype: of the matrix.
        solver: for the text of errors.

    Raises:
        ValueError: no such backend, it is not installed, or does not do it.
    """
    dtype = np.dtype(dtype)
    if backend is None:
        others = [_rslab()] if has_rslab() else []
        for each in (*others, _superlu()):
            if each.supports(kind, dtype):
                return each
        wanted: Any = _superlu()
    elif backend == "superlu":
        wanted = _superlu()
    elif backend == "rslab":
        if not has_rslab():
            raise ValueError(
                "the backend rslab is not installed; install it by `pip install "
                '"lx-solvers[sparse]"`, or use `backend="superlu"`.'
            )
        wanted = _rslab()
    elif isinstance(backend, SparseBackend):
        wanted = backend
    else:
        raise ValueError(
            '`backend` must be "superlu", "rslab", a `SparseBackend` or None, but got '
            f"{backend!r}."
        )
    if not wanted.supports(kind, dtype):
        raise ValueError(
            f"`{solver}` has no factorisation for {_KINDS[kind]} matrices of dtype "
            f"{dtype} by {wanted!r}. Use `SparseLU`"
            + ("." if has_rslab() else ', or install the extra "lx-solvers[sparse]".')
        )
    return wanted


_KINDS = {
    "general": "general",
    "definite": "Hermitian definite",
    "hermitian": "Hermitian indefinite",
    "symmetric": "symmetric indefinite",
}


def has_rslab() -> bool:
    """Whether the extra is installed."""
    return importlib.util.find_spec("rslab") is not None


def _superlu() -> SparseBackend:
    from ._superlu import SuperLU

    return SuperLU()


def _rslab() -> SparseBackend:
    from ._rslab import Rslab

    return Rslab()


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
    check_square(operator, solver)
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
    """What a solver's `compute` returns."""
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
    longest = matrix.pattern.longest_row
    tolerance = TOLERANCE * math.sqrt(longest + 1) * eps(b.dtype)
    # NaN is no success
    stable = choose(error <= tolerance, RESULTS.successful, RESULTS.unstable)
    result = named(number)
    return x, choose(succeeded(result), stable, result), error, steps


# A residual has rounding errors of its own, of about √k for rows of k entries.
TOLERANCE = 8


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
    """What the primitives take: the digest and the matrix."""
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
        found = bare(operator)
        assert isinstance(found, SparseLinearOperator)
        return found.values.astype(inverse.dtype)

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
