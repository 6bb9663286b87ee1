"""BlockTridiagonal: block elimination, one block row after another or all at once.

Rows and columns are scaled by powers of two, as in `Tridiagonal`: A becomes R⁻¹AC⁻¹. In
sequence, by A = (I + W) D (I + V), W below and V above the diagonal (Golub and Van
Loan, "Matrix Computations", 4th ed., 2013, section 4.5.1):

    Dᵢ = Aᵢᵢ - Aᵢ,ᵢ₋₁ Vᵢ₋₁,    Vᵢ = Dᵢ⁻¹ Aᵢ,ᵢ₊₁,    Wᵢ = Aᵢ₊₁,ᵢ Dᵢ⁻¹

In parallel, by cyclic reduction of all rows (Hockney and Jesshope, "Parallel Computers
2", 1988, section 5.4.3): row i, less what rows i - s and i + s say of its neighbours,
couples to i - 2s and i + 2s; after log₂ n levels to none.

Rows are exchanged within a block only: stable for block diagonally dominant and for
definite A (Demmel, Higham and Schreiber 1995, doi:10.1002/nla.1680020208), not in
general. So, as in `Tridiagonal`, the answer itself is checked: `unstable` if it does
not solve every row, `singular` if ‖R⁻¹b‖ ≤ 4 eps ‖Cx‖.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Inexact, Int, Real
from lx_operators import AbstractLinearOperator, BlockTridiagonalLinearOperator
from lx_operators.internal import PackedStructures, block_tridiagonal, pack_structures

from .._checks import check_options, check_state
from .._control_flow import scan
from .._results import both
from .._scaling import largest, reciprocal_scale
from .._sizes import variates
from .._slogdet import slogdet_of, slogdet_of_factors, tangent_of, trace_of
from .._solution import RESULTS
from .._solver import AbstractLinearSolver
from . import _views as views
from ._block_lu import (
    BlockLU,
    adjoint_of,
    each_times,
    factorised,
    matmul,
    on_each,
    solve_left,
    solve_right,
)
from ._equilibration import Scales, block_band, evenly
from ._factors import HIGHEST, judge, working_dtype
from ._refinement import judge_answer, ratio_or, row_error, significant


class _Blocks(eqx.Module):
    """R⁻¹AC⁻¹; all of size n, lower[0] = upper[-1] = 0."""

    lower: Inexact[Array, "n b b"]
    main: Inexact[Array, "n b b"]
    upper: Inexact[Array, "n b b"]


class _Sequence(eqx.Module):
    D: BlockLU
    V: Inexact[Array, "n b b"]
    W: Inexact[Array, "n b b"]


class _Levels(eqx.Module):
    """bᵢ + αᵢ bᵢ₋ₛ + γᵢ bᵢ₊ₛ at each level, and what is left on the diagonal."""

    s: Int[Array, " k"]
    alpha: Inexact[Array, "k n b b"]
    gamma: Inexact[Array, "k n b b"]
    D: BlockLU


class _State(eqx.Module):
    blocks: _Blocks
    factors: _Sequence | _Levels
    scales: Scales
    verdict: RESULTS
    packed: PackedStructures
    view: views.View = eqx.field(static=True, default=views.View())


class BlockTridiagonal(AbstractLinearSolver[_State]):
    """Block elimination, for a `BlockTridiagonalLinearOperator` that is definite or
    block diagonally dominant.

    With n blocks of size b it takes O(n·b³) operations in n sequential steps. With
    `parallel=True`, for many processors, it takes O(n·b³·log n) operations in log₂ n
    steps, and keeps 2·n·b²·log n elements.

    For other operators it may report `unstable`; for these use `Banded`, which
    exchanges rows across blocks. `stats` has `backward_error` and
    `reciprocal_condition`, as for `Tridiagonal`.

    Args:
        parallel: use cyclic reduction of all block rows at once.

    Golub and Van Loan, "Matrix Computations", 4th ed., 2013, section 4.5; Hockney and
    Jesshope, "Parallel Computers 2", 1988, section 5.4.

    ```python
    eye = jnp.tile(jnp.eye(2), (4, 1, 1))
    operator = lx.BlockTridiagonalLinearOperator(4 * eye, -eye[1:], -eye[1:])
    solution = lx.linear_solve(operator, jnp.ones((4, 2)), lx.BlockTridiagonal())
    ```
    """

    parallel: bool = eqx.field(static=True, default=False)

    def init(self, operator, options):
        check_options(options, (), "BlockTridiagonal")
        A = block_tridiagonal(operator)
        if A is None:
            raise ValueError(
                "`BlockTridiagonal` solves block tridiagonal systems only, but the "
                f"operator is not known to be one: {operator!r}. Make it a "
                "`BlockTridiagonalLinearOperator`, or use another solver."
            )
        blocks, scales, finite = _equilibrated(A)
        eliminate = _levels if self.parallel else _sequence
        factors, packed = eliminate(blocks), pack_structures(A)
        return _State(blocks, factors, scales, judge(finite), packed)

    def compute(self, state, vector, options):
        check_state(state, _State, "BlockTridiagonal")
        n, b, _ = state.blocks.main.shape
        stats = {}

        def solve_with(rhs, adjoint):
            if not rhs.size:
                return rhs

            def solve(rhs):
                rhs, factors = rhs.reshape(n, b), state.factors
                if isinstance(factors, _Levels):
                    y = _in_levels(factors, rhs, adjoint)
                else:
                    y = _in_sequence(factors, rhs, adjoint)
                figures = _figures(state.blocks, state.scales, rhs, y, adjoint)
                return y.ravel(), figures

            x, (error, near) = state.scales.checked(rhs, adjoint, solve)
            stats.update(backward_error=error, reciprocal_condition=near)
            return x

        x, result = views.solve(state, vector, state.blocks.main.dtype, solve_with)
        if stats:
            dtype = state.blocks.main.dtype
            result = both(result, judge_answer(*stats.values(), dtype=dtype))
        return x, result, stats

    def transpose(self, state, options):
        check_state(state, _State, "BlockTridiagonal")
        return views.transpose(state), {}

    def conj(self, state, options):
        check_state(state, _State, "BlockTridiagonal")
        return views.conj(state), {}

    def assume_full_rank(self):
        return True


def _equilibrated(
    A: BlockTridiagonalLinearOperator,
) -> tuple[_Blocks, Scales, Bool[Array, ""]]:
    main = A.diagonal.astype(working_dtype(A.diagonal.dtype))
    n, b, _ = main.shape
    lower, upper = (x.astype(main.dtype) for x in (A.lower_diagonal, A.upper_diagonal))
    if n:
        lower = jnp.pad(lower, ((1, 0), (0, 0), (0, 0)))
        upper = jnp.pad(upper, ((0, 1), (0, 0), (0, 0)))
    F = jnp.concatenate((lower, main, upper), axis=2).reshape(n * b, 3 * b)
    F, scales, finite = evenly(F, block_band(n, b))
    F = F.reshape(n, b, 3, b)
    return _Blocks(F[:, :, 0], F[:, :, 1], F[:, :, 2]), scales, finite


# One row after another


def _sequence(A: _Blocks) -> _Sequence:
    def step(main, row):  # Dᵢ; Aᵢ₊₁,ᵢ, Aᵢ,ᵢ₊₁, Aᵢ₊₁,ᵢ₊₁
        below, above, following = row
        D = factorised(main)
        V, W = solve_left(D, above), solve_right(D, below)
        return following - matmul(below, V), (D, V, W)

    if not A.main.size:
        return _Sequence(factorised(A.main), A.upper, A.lower)
    rows = jnp.roll(A.lower, -1, axis=0), A.upper, jnp.roll(A.main, -1, axis=0)
    return _Sequence(*scan(step, A.main[0], rows)[1])


def _in_sequence(
    factors: _Sequence, b: Inexact[Array, "n b"], adjoint: bool
) -> Inexact[Array, "n b"]:
    below, above = factors.W, factors.V
    if adjoint:
        below, above = adjoint_of(above), adjoint_of(below)

    def down(taken, row):  # what row i - 1 has taken from row i
        block, b = row
        y = b - taken
        return matmul(block, y), y

    def up(x, row):
        block, z = row
        x = z - matmul(block, x)
        return x, x

    start = jnp.zeros_like(b[0])
    _, y = scan(down, start, (below, b))
    z = on_each(factors.D, y, adjoint)
    return scan(up, start, (above, z), reverse=True)[1]


# All rows at once


def _levels(A: _Blocks) -> _Levels:
    n, b, _ = A.main.shape
    s = 2 ** jnp.arange(max(n - 1, 0).bit_length(), dtype=jnp.int32)

    def level(rows, s):
        # where there is no row i - s, what `roll` has there meets a block of zeros
        lower, main, upper = rows
        D = factorised(main)
        pair = jnp.concatenate((_from(lower, s), _from(upper, -s)), axis=1)
        pair = -jax.vmap(solve_right)(D, pair)
        alpha, gamma = _from(pair[:, :b], -s), _from(pair[:, b:], s)
        main = (
            main
            + matmul(alpha, _from(upper, -s))
            + matmul(gamma, _from(lower, s))
        )  # fmt: skip
        lower, upper = (
            matmul(alpha, _from(lower, -s)),
            matmul(gamma, _from(upper, s)),
        )
        return (lower, main, upper), (alpha, gamma)

    rows, (alpha, gamma) = scan(level, (A.lower, A.main, A.upper), s)
    return _Levels(s, alpha, gamma, factorised(rows[1]))


def _from(x: Inexact[Array, "n ..."], s: Int[Array, ""]) -> Inexact[Array, "n ..."]:
    """xᵢ₊ₛ in place i."""
    return jnp.roll(x, -s, axis=0)


def _in_levels(
    factors: _Levels, b: Inexact[Array, "n b"], adjoint: bool
) -> Inexact[Array, "n b"]:
    def reduce(b, level):
        s, alpha, gamma = level
        below, above = _from(b, -s), _from(b, s)
        return b + each_times(alpha, below) + each_times(gamma, above), None

    def spread(y, level):
        s, alpha, gamma = level
        below = _from(each_times(adjoint_of(alpha), y), s)
        return y + below + _from(each_times(adjoint_of(gamma), y), -s), None

    levels = factors.s, factors.alpha, factors.gamma
    if not adjoint:
        b, _ = scan(reduce, b, levels)
        return on_each(factors.D, b, adjoint)
    y = on_each(factors.D, b, adjoint)
    return scan(spread, y, levels, reverse=True)[0]


# The answer


def _figures(
    A: _Blocks, scales: Scales, b: Array, y: Array, adjoint: bool
) -> tuple[Real[Array, ""], Real[Array, ""]]:
    """The largest backward error of a row, and how near A is to a singular matrix."""
    lower, main, upper = A.lower, A.main, A.upper
    if adjoint:
        lower, upper = jnp.roll(upper, 1, axis=0), jnp.roll(lower, -1, axis=0)
        lower, main, upper = adjoint_of(lower), adjoint_of(main), adjoint_of(upper)
    A = _Blocks(lower, main, upper)
    of_x = significant(scales.unscaled(y.ravel(), adjoint)).reshape(y.shape)
    sized = jnp.stack((jnp.abs(y), of_x), axis=-1)
    sizes, met = jnp.moveaxis(_product(jax.tree.map(jnp.abs, A), sized), -1, 0)
    r = b - _product(A, y[..., None])[..., 0]
    error = row_error(r, b, sizes, met, y)
    return error, ratio_or(largest(b), largest(y), 1)


def _product(A: _Blocks, y: Inexact[Array, "n b k"]) -> Inexact[Array, "n b k"]:
    before, after = jnp.roll(y, 1, axis=0), jnp.roll(y, -1, axis=0)
    return matmul(A.lower, before) + matmul(A.main, y) + matmul(A.upper, after)


@slogdet_of.register
def _(state: _State):
    factors = state.factors
    if isinstance(factors, _Levels):
        factors = _sequence(state.blocks)
    D = factors.D
    pivots = jnp.diagonal(D.lu, axis1=1, axis2=2).ravel()
    verdict = state.verdict
    if pivots.size:  # inverse iteration, as in `_factors.reciprocal_condition`
        z = jnp.asarray(variates(state.blocks.main.shape[:2], pivots.dtype))
        b = _in_sequence(factors, z, True)
        b = b * reciprocal_scale(largest(b)).astype(b.dtype)
        x = _in_sequence(factors, b, False)
        figures = _figures(state.blocks, state.scales, b, x, False)
        seen = judge_answer(*figures, dtype=pivots.dtype)
        verdict = both(verdict, seen)
    return slogdet_of_factors(
        pivots,
        turned=state.view.turned,
        scales=(state.scales.rows, state.scales.columns),
        odd=jnp.sum(D.odd) % 2 == 1,
        verdict=verdict,
    )


@trace_of.register
def _(state: _State, solver, tangent):
    """From the blocks of Z = A⁻¹ on its three diagonals alone (Takahashi, Fagan and
    Chen 1973): Zᵢᵢ = Dᵢ⁻¹ + Vᵢ Zᵢ₊₁,ᵢ₊₁ Wᵢ, next to it -Vᵢ Zᵢ₊₁,ᵢ₊₁ and -Zᵢ₊₁,ᵢ₊₁
    Wᵢ."""
    if state.view != views.View():
        return None
    factors = state.factors
    if isinstance(factors, _Levels):
        factors = _sequence(state.blocks)
    n, b, _ = state.blocks.main.shape
    dtype = state.blocks.main.dtype
    rows = state.scales.rows.astype(dtype).reshape(n, b, 1)
    columns = state.scales.columns.astype(dtype).reshape(n, 1, b)
    eye = jnp.broadcast_to(jnp.eye(b, dtype=dtype), state.blocks.main.shape)
    inverses = jax.vmap(solve_left)(factors.D, eye)

    def up(Z, row):
        inverse, V, W = row
        right, below = -matmul(V, Z), -matmul(Z, W)
        Z = inverse - matmul(right, W)
        return Z, (Z, right, below)

    start = jnp.zeros((b, b), dtype)
    _, (Z, right, below) = scan(
        up, start, (inverses, factors.V, factors.W), reverse=True
    )

    def moved(name: str, rows: Array, columns: Array) -> Array:
        def take(operator: AbstractLinearOperator) -> Array:
            return getattr(block_tridiagonal(operator), name)

        return tangent_of(take, tangent).astype(dtype) / rows / columns

    def product(Z: Array, dA: Array) -> Array:
        return jnp.einsum("nij,nji->", Z, dA, precision=HIGHEST)

    return (
        product(Z, moved("diagonal", rows, columns))
        + product(right[:-1], moved("lower_diagonal", rows[1:], columns[:-1]))
        + product(below[:-1], moved("upper_diagonal", rows[:-1], columns[1:]))
    )
