"""SparseLeastSquares: the augmented system, factorised on the host.

With F = A C⁻¹, or Aᴴ = F C if that is tall, where C of powers of two brings the largest
element of each column near one, and s = r/α (Björck, "Numerical Methods for Least
Squares Problems", 1996, sections 2.5 and 7.7, doi:10.1137/1.9781611971484),

    [ αI   F      ] [s]   [b]
    [ Fᴴ  -(d²/α)C⁻² ] [y] = [c].

c = 0 gives the solution C⁻¹y of min ‖Ax - b‖² + d²‖x‖², and b = 0 the solution s of
minimum norm of Fᴴs = c, of which it is the same problem with Fᴴ. No product FᴴF is
formed. Its condition is between κ and κ², least for α near the smallest singular value
of F; that is not known, and α is 2⁻¹⁰. Where rows of F are graded, other scales take
the grading away (`_augmented.py`).

Rows of A may not be multiplied without changing the problem, so a large row must not
hide an error in a small one, and each row of K z = h is judged by its own terms. If

    |h - K z|ᵢ ≤ ω (|K||z| + |h|)ᵢ    for all i, with ω of a few eps,

then z solves a system whose elements differ by ω each, and has the error of at most
ω |K⁻¹| (|K||z| + |h|) (Oettli and Prager 1964, doi:10.1007/BF01386090; Björck 1991,
doi:10.1007/BF01931285); the host refines z until this is so (Arioli, Demmel and Duff
1989, doi:10.1137/0610013), and reports if it is not. The residual is computed here
again, where an error of s by the roundings of its own row is forgiven. If K is so
ill-conditioned that z may be unknown, one more solve shows how far roundings move it.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Inexact, Int, Real, UInt32
from lx_operators import ColouredPattern, SparseLinearOperator, conj
from lx_operators.internal import PackedStructures, pack_structures

from .._checks import check_options, check_state, is_zero
from .._control_flow import cond
from .._results import choose, named, succeeded
from .._scaling import eps, largest, power_of_two
from .._solution import RESULTS
from .._solver import AbstractLinearSolver
from ..direct import _views as views
from ..direct._factors import check_damp
from ._backends import chosen_backend
from ._matrix import sparse_matrix
from ._protocol import SparseBackend, Task
from ._solve import coloured, host_primitives
from ._systems import tolerance

_ALPHA = 2.0**-10
_KNOWN = 0.01  # the largest relative change of a solution by roundings


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

    Success means that each equation of the augmented system holds up to rounding errors
    of its own terms, and that these leave the solution at least two digits. Rows and
    columns of A may differ by many orders of magnitude: a large row acts as a
    constraint. `stats["reciprocal_condition"]` is that of the augmented system with its
    rows and columns scaled, in the 1-norm.

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
        task = Task(size, "general", False, backend, rows=F.pattern.shape[0])
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
    m, k = state.F.pattern.shape
    columns = state.columns.astype(b.dtype)
    if adjoint:
        p, q = jnp.zeros(m, b.dtype), b * columns
    else:
        p, q = b, jnp.zeros(k, b.dtype)
    h = jnp.concatenate((p, q))
    z, result, steps = _host_solved(state, h)
    of_h = _of_rows(state, z, jnp.abs(h))
    noise = jnp.concatenate((of_h[:m] / _ALPHA, jnp.zeros_like(columns.real)))
    limit = _tolerance(state) * (of_h + _of_rows(state, noise, jnp.zeros_like(of_h)))
    each_row = jnp.all(jnp.abs(_residual(state, z, h)) <= limit)
    fine = each_row & cond(
        state.reciprocal_condition >= eps(h.dtype) ** 0.75,
        lambda _: jnp.array(True),
        lambda x: _is_known(*x, adjoint),
        (state, z, of_h),
    )
    stable = choose(fine, RESULTS.successful, RESULTS.unstable)
    s, y = z[:m], z[m:]
    x = s if adjoint else y * columns
    return x, choose(succeeded(result), stable, result), steps


def _host_solved(
    state: _State, h: Inexact[Array, " n"]
) -> tuple[Inexact[Array, " n"], RESULTS, Int[Array, ""]]:
    system = state.system
    arrays = state.digest, system.rows, system.columns, system.values
    z, number, steps = host_primitives().solve_p.bind(
        *arrays, h[None], task=state.task, adjoint=False
    )
    return z[0], named(number[0]), steps[0]


def _residual(
    state: _State, z: Inexact[Array, " n"], h: Inexact[Array, " n"]
) -> Inexact[Array, " n"]:
    """h - K z."""
    F, m = state.F, state.F.pattern.shape[0]
    (s, y), (p, q) = jnp.split(z, [m]), jnp.split(h, [m])
    f = p - s * jnp.asarray(_ALPHA, s.dtype) - F.mv(y)
    g = q - conj(F.T).mv(s) + state.damping.astype(y.dtype) * y
    return jnp.concatenate((f, g))


def _of_rows(
    state: _State, z: Inexact[Array, " n"], h: Real[Array, " n"]
) -> Real[Array, " n"]:
    """|K| |z| + |h|: what each row of the residual is made of."""
    F, m = state.F, state.F.pattern.shape[0]
    sizes = SparseLinearOperator(jnp.abs(F.values), F.pattern)
    s, y = jnp.split(jnp.abs(z), [m])
    of_f = s * jnp.asarray(_ALPHA, s.dtype) + sizes.mv(y)
    return jnp.concatenate((of_f, sizes.T.mv(s) + state.damping * y)) + h


def _is_known(
    state: _State, z: Inexact[Array, " n"], of_h: Real[Array, " n"], adjoint: bool
) -> Bool[Array, ""]:
    """Whether roundings leave a few digits of z: in first order they change it by
    eps |e|, where e = K⁻¹ Σ (|K||z| + |h|) for some signs Σ (Kenney and Laub 1994,
    doi:10.1137/0915004: a sample of one)."""
    m, unit = state.F.pattern.shape[0], eps(z.dtype)
    h = (_signs(z.size, of_h.dtype) * of_h).astype(z.dtype)
    e, result, _ = _host_solved(state, h)
    wanted = slice(None, m) if adjoint else slice(m, None)
    known = unit * largest(e[wanted]) <= _KNOWN * largest(z[wanted])
    return succeeded(result) & known


def _tolerance(state: _State) -> float:
    pattern = state.F.pattern
    longest = max(pattern.longest_row, pattern.longest_column)
    return tolerance(longest + 1, state.F.values.dtype)


def _signs(size: int, dtype: Any) -> Array:
    """Signs that look like chance, computed where they are used (bits of a Weyl
    sequence)."""
    bits = jnp.arange(size, dtype=jnp.uint32) * jnp.uint32(0x9E3779B9)
    return jnp.where(bits >> jnp.uint32(31) == 1, -1, 1).astype(dtype)
