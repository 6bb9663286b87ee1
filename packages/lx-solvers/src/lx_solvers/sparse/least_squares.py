"""SparseLeastSquares: the augmented system, factorised on the host.

With F = A C⁻¹, or Aᴴ = F C if that is tall, where C of powers of two brings the largest
element of each column near one, and s = r/α (Björck, "Numerical Methods for Least
Squares Problems", 1996, sections 2.5 and 7.7, doi:10.1137/1.9781611971484),

    [ αI   F      ] [s]   [b]
    [ Fᴴ  -(d²/α)C⁻² ] [y] = [c].

c = 0 gives the solution C⁻¹y of min ‖Ax - b‖² + d²‖x‖², and b = 0 the solution s of
minimum norm of Fᴴs = c, of which it is the same problem with Fᴴ. No product FᴴF is
formed. Its condition is between κ and κ², least for α near the smallest singular value
of F; that is not known, and α is 2⁻¹⁰.
"""

import math
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Inexact, Int, Real, UInt32
from lx_operators import ColouredPattern, SparseLinearOperator, conj
from lx_operators.internal import PackedStructures, pack_structures

from .._checks import check_options, check_state, is_zero
from .._results import choose, named, succeeded
from .._scaling import eps, largest, power_of_two
from .._solution import RESULTS
from .._solver import AbstractLinearSolver
from ..direct import _views as views
from ..direct._factors import check_damp
from ._backends import chosen_backend
from ._matrix import sparse_matrix
from ._protocol import SparseBackend, Task
from ._solve import (
    TOLERANCE,
    coloured,
    host_primitives,
)

_ALPHA = 2.0**-10


class _System(eqx.Module):
    """The augmented matrix, by rows."""

    rows: Int[Array, " size"]
    columns: Int[Array, " size"]
    values: Inexact[Array, " size"]


class _State(eqx.Module):
    F: SparseLinearOperator  # [m, k], m ≥ k, scaled
    columns: Real[Array, " k"]  # reciprocals of what its columns were divided by
    damping: Real[Array, " k"]  # (d²/α) C⁻²
    system: _System
    digest: UInt32[Array, " 4"]
    reciprocal_condition: Real[Array, ""]
    verdict: RESULTS
    packed: PackedStructures
    task: Task = eqx.field(static=True)
    view: views.View = eqx.field(static=True)


class SparseLeastSquares(AbstractLinearSolver[_State]):
    """Least-squares and minimum-norm solutions with a sparse operator of full rank, of
    any shape, damped or not.

    The augmented system is factorised on the host, by LU. A rank-deficient operator is
    reported as `singular`, unless `damp` makes the problem regular; use `LSMR` for the
    pseudoinverse solution. An operator whose condition number is far above 1/√eps
    (about 1e9 in double precision and 1e4 in single) is also reported as `singular`,
    because the augmented system squares it.

    Success means that the residuals of the augmented system are rounding errors. Where
    rows differ by more than some twelve orders of magnitude, the smallest ones may
    still count for nothing. `stats["reciprocal_condition"]` is that of the augmented
    system, in the 1-norm.

    Args:
        damp: d, where ‖Ax - b‖² + d²‖x‖² is minimised; at least 0.
        backend, sparsity: as for `SparseLU`.

    ```python
    pattern = lx.SparsityPattern([0, 1, 2], [0, 1, 1], (3, 2))
    operator = lx.SparseLinearOperator(jnp.array([1.0, 1.0, 1.0]), pattern)
    vector = jnp.array([1.0, 2.0, 4.0])
    solution = lx.linear_solve(operator, vector, lx.SparseLeastSquares())
    solution.value  # [1., 3.]
    ```
    """

    damp: ArrayLike = 0.0
    backend: str | SparseBackend | None = eqx.field(static=True, default=None)
    sparsity: ColouredPattern | None = eqx.field(converter=coloured, default=None)

    def __check_init__(self):
        check_damp(self.damp)

    def init(self, operator, options):
        check_options(options, (), "SparseLeastSquares")
        A = sparse_matrix(operator, self.sparsity, "SparseLeastSquares")
        wide = A.pattern.shape[0] < A.pattern.shape[1]
        F = conj(A.T) if wide else A
        F, columns = _equilibrated(F)
        damping = jnp.square(jnp.asarray(self.damp, columns.dtype) * columns) / _ALPHA
        system = _augmented(F, None if is_zero(self.damp) else damping)
        # by LU: an LDLᵀ that replaces small pivots hides that F is rank-deficient
        dtype, size = F.values.dtype, sum(F.pattern.shape)
        backend = chosen_backend(self.backend, "general", dtype, "SparseLeastSquares")
        task = Task(size, "general", False, backend, each_row=True)
        arrays = system.rows, system.columns, system.values
        digest, number, rcond, _, _ = host_primitives().factor_p.bind(
            *arrays, task=task
        )
        packed, view = pack_structures(operator), views.View(adjoint=wide)
        verdict = named(number)
        return _State(
            F, columns, damping, system, digest, rcond, verdict, packed, task, view
        )

    def compute(self, state, vector, options):
        check_state(state, _State, "SparseLeastSquares")
        told: list[Any] = []

        def solve_with(b: Array, adjoint: bool) -> Array:
            x, *rest = _solved(state, b, adjoint)
            told.extend(rest)
            return x

        x, result = views.solve(state, vector, state.F.values.dtype, solve_with)
        own, steps = told
        result = choose(succeeded(result), own, result)
        rcond = state.reciprocal_condition
        return x, result, {"reciprocal_condition": rcond, "refinement_steps": steps}

    def transpose(self, state, options):
        check_state(state, _State, "SparseLeastSquares")
        return views.transpose(state), {}

    def conj(self, state, options):
        check_state(state, _State, "SparseLeastSquares")
        return views.conj(state), {}

    def assume_full_rank(self):
        return True


def _equilibrated(
    F: SparseLinearOperator,
) -> tuple[SparseLinearOperator, Real[Array, " k"]]:
    pattern, k = F.pattern, F.pattern.shape[1]
    sizes = jnp.maximum(jnp.abs(F.values.real), jnp.abs(F.values.imag))
    most = jnp.zeros(k, sizes.dtype).at[pattern.columns].max(sizes)
    scales = 1 / power_of_two(most)
    values = F.values * scales[pattern.columns].astype(F.values.dtype)
    return SparseLinearOperator(values, pattern), scales


def _augmented(F: SparseLinearOperator, damping: Array | None) -> _System:
    """Row by row: α, then a row of F; a row of Fᴴ, then what damps."""
    pattern, values = F.pattern, F.values
    (m, k), size = pattern.shape, pattern.size
    index = pattern.rows.dtype
    i, j = jnp.arange(m, dtype=index), jnp.arange(k, dtype=index)
    entry = jnp.arange(size, dtype=index)
    turned = pattern.transposed
    row, column = pattern.rows[turned], pattern.columns[turned]
    alpha = jnp.full(m, _ALPHA, values.dtype)
    first, second = pattern.row_starts[:-1] + i, entry + pattern.rows + 1
    third = entry + (m + size)
    parts = [
        (first, i, i, alpha),
        (second, pattern.rows, pattern.columns + m, values),
        (third, column + m, row, values[turned].conj()),
    ]
    if damping is not None:
        parts[2] = (third + column, *parts[2][1:])
        last = pattern.column_starts[1:] + (m + size) + j
        parts.append((last, j + m, j + m, -damping.astype(values.dtype)))
    place, *arrays = (jnp.concatenate(x) for x in zip(*parts))
    return _System(*(_placed(place, x) for x in arrays))


def _placed(place: Array, x: Array) -> Array:
    return jnp.zeros_like(x).at[place].set(x, unique_indices=True)


def _solved(
    state: _State, b: Inexact[Array, "..."], adjoint: bool
) -> tuple[Inexact[Array, "..."], RESULTS, Int[Array, ""]]:
    F, (m, k) = state.F, state.F.pattern.shape
    columns = state.columns.astype(b.dtype)
    if adjoint:
        p, q = jnp.zeros(m, b.dtype), b * columns
    else:
        p, q = b, jnp.zeros(k, b.dtype)
    system = state.system
    arrays = state.digest, system.rows, system.columns, system.values
    z, number, steps = host_primitives().solve_p.bind(
        *arrays, jnp.concatenate((p, q))[None], task=state.task, adjoint=False
    )
    s, y = z[0, :m], z[0, m:]
    fine = _is_stable(F, state.damping, s, y, p, q)
    result, stable = (
        named(number[0]),
        choose(fine, RESULTS.successful, RESULTS.unstable),
    )
    x = s if adjoint else y * columns
    return x, choose(succeeded(result), stable, result), steps[0]


def _is_stable(
    F: SparseLinearOperator, damping: Array, s: Array, y: Array, p: Array, q: Array
) -> Bool[Array, ""]:
    """Whether the residuals of both block rows are rounding errors, normwise or in each
    element. s has an error of eps/α times the size of F y, which the second has to be
    forgiven."""
    alpha = jnp.asarray(_ALPHA, damping.dtype)
    sizes = SparseLinearOperator(jnp.abs(F.values), F.pattern)
    of_y, longest = jnp.abs(y), max(F.pattern.longest_row, F.pattern.longest_column)
    f = p - s * alpha.astype(s.dtype) - F.mv(y)
    g = q - conj(F.T).mv(s) + damping.astype(y.dtype) * y
    of_f = alpha * jnp.abs(s) + sizes.mv(of_y) + jnp.abs(p)
    of_s = jnp.abs(s) + largest(of_f) / alpha
    of_g = sizes.T.mv(of_s) + damping * of_y + jnp.abs(q)
    tolerance = TOLERANCE * math.sqrt(longest + 2) * eps(s.dtype)

    def small(r: Array, scale: Array) -> Bool[Array, ""]:
        r = jnp.abs(r)
        return (largest(r) <= tolerance * largest(scale)) | jnp.all(
            r <= tolerance * scale
        )

    return small(f, of_f) & small(g, of_g)
