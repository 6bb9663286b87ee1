"""Matrices and their factors: what the dense direct solvers share.

Scaled matrices to factorise, triangular factors and permutations to apply, how far a
factor is from a singular one, and the verdict.
"""

import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Inexact, Int, Real
from lx_operators import AbstractLinearOperator
from lx_operators.internal import cast, complex_to_real_dtype, promote_types

from .._checks import is_zero
from .._results import all_finite, choose
from .._scaling import eps, largest, power_of_two, reciprocal_scale
from .._sizes import is_known, sqrt_of, variates
from .._solution import RESULTS

HIGHEST = jax.lax.Precision.HIGHEST


def working_dtype(dtype: Any) -> np.dtype:
    """The dtype to compute in: half precision, which LAPACK lacks, becomes float32."""
    return promote_types(dtype, jnp.float32)


def dense_matrix(operator: AbstractLinearOperator) -> Inexact[Array, "m n"]:
    """The operator's matrix, in the dtype that the solver computes in.

    It carries no tangent: factors are never differentiated (not all of JAX's
    factorisations can be), derivatives of solutions come from `linear_solve`.
    """
    return jax.lax.stop_gradient(own_matrix(operator))


def own_matrix(operator: AbstractLinearOperator) -> Inexact[Array, "m n"]:
    """The same with its tangent: the very array of the operator, if it has one. A state
    that holds it costs no memory."""
    matrix = operator.as_matrix()
    return cast(matrix, working_dtype(matrix.dtype))


def check_damp(damp: Any) -> None:
    if isinstance(damp, bool | int | float) and not 0 <= damp < math.inf:
        raise ValueError(
            f"`damp` must be a finite number of at least 0, but got {damp}; it is the "
            "root of λ in ‖Ax - b‖² + λ‖x‖²."
        )


def scaled_or_zero(
    A: Inexact[Array, "m n"], damp: Any = 0.0
) -> tuple[Inexact[Array, "m n"], Real[Array, ""], Bool[Array, ""]]:
    """A divided by a power of two, so that singular values and their reciprocals are
    in range; the power; and whether A is finite. It is zero if not: LAPACK's
    iterations for singular values need not end on infinities."""
    size = largest(A)
    finite = jax.lax.is_finite(size)
    if not is_zero(damp):
        size = jnp.maximum(size, jnp.asarray(damp, size.dtype))
    scale = power_of_two(size)
    by = cast(reciprocal_scale(scale), A.dtype)
    A = jax.lax.mul(A, jax.lax.broadcast_in_dim(by, A.shape, ()))
    return jax.lax.select(finite, A, jax.lax.full_like(A, 0)), scale, finite


def equilibrated(
    A: Inexact[Array, "m n"],
) -> tuple[Inexact[Array, "m n"], Real[Array, " m"], Bool[Array, ""]]:
    """A with its rows divided by powers of two, so that the largest element of each is
    of order one; these powers; and whether A is finite."""
    sizes = largest(A, axis=1)
    scales = power_of_two(sizes)
    by = jax.lax.broadcast_in_dim(
        cast(reciprocal_scale(scales), A.dtype), A.shape, (0,)
    )
    return jax.lax.mul(A, by), scales, all_finite(sizes)


class Tall(NamedTuple):
    """A as F or Fᴴ, with at least as many rows as columns, and scaled."""

    F: Inexact[Array, "p k"]  # with damping, `damp` times the identity stands above
    rows: Real[Array, " m"]  # A is diag(rows) F, or its adjoint
    finite: Bool[Array, ""]
    wide: bool  # whether A is the adjoint


def tall(A: Inexact[Array, "m n"], damp: Any = 0.0) -> Tall:
    """A in the form that QR with pivoting factorises.

    A wide A is taken as the adjoint of a tall one. Damping makes the problem that of
    [damp·I; F], which solves min ‖Fx - b‖² + damp²‖x‖² without a square (Golub and
    Van Loan, 4th ed., section 6.1.4), and of minimum norm [damp·I, Fᴴ] for the adjoint.
    In this order reflections do not mix the rows of the identity, and F below a large
    `damp` keeps its relative accuracy.

    All is scaled by one power of two, away from both ends of the range: which columns
    count, and what the solution of minimum norm is, depends on their scales.
    """
    wide = A.shape[0] < A.shape[1]
    F = A.T.conj() if wide else A
    m, k = F.shape
    size = largest(F)
    finite = jnp.isfinite(size)
    if not is_zero(damp):
        damp = jnp.asarray(damp, size.dtype)
        size = jnp.maximum(size, damp)
    scale = power_of_two(size)
    F = F / scale.astype(F.dtype)
    if not is_zero(damp):
        above = (damp / scale).astype(F.dtype) * jnp.eye(k, dtype=F.dtype)
        F = jnp.concatenate((above, F))
    return Tall(F, jnp.full(m, scale), finite, wide)


def householder(
    F: Inexact[Array, "m k"],
) -> tuple[Inexact[Array, "m k"], Inexact[Array, " k"]]:
    """R and the reflectors of F = QR in LAPACK's packed form, m ≥ k."""
    if 0 in F.shape:  # LAPACK does not survive it
        return F, jnp.zeros(F.shape[1], F.dtype)
    h, taus = jnp.linalg.qr(F, mode="raw")
    return h.T, taus


def solve_triangular(
    matrix: Inexact[Array, "n n"],
    b: Inexact[Array, " n"],
    *,
    lower: bool,
    adjoint: bool = False,
    unit_diagonal: bool = False,
) -> Inexact[Array, " n"]:
    """T⁻¹ b or T⁻ᴴ b; of `matrix` only that triangle is read."""
    x = jax.lax.linalg.triangular_solve(
        matrix,
        jax.lax.expand_dims(b, (1,)),
        left_side=True,
        lower=lower,
        transpose_a=adjoint,
        conjugate_a=adjoint,
        unit_diagonal=unit_diagonal,
    )
    return jax.lax.squeeze(x, (1,))


def lower_triangle(matrix: Inexact[Array, "m n"]) -> Inexact[Array, "m n"]:
    """The matrix with zeros above its diagonal."""
    i, j = (jax.lax.broadcasted_iota(jnp.int32, matrix.shape, k) for k in (0, 1))
    return jax.lax.select(jax.lax.ge(i, j), matrix, jax.lax.full_like(matrix, 0))


def nan_unless(condition: Bool[Array, ""], F: Inexact[Array, "..."]) -> Array:
    """Factors F, or NaNs. Where the condition was read off F, this costs nothing, and
    tells XLA that all who read F as it was are done: JAX puts NaNs where LAPACK
    failed, and this is so written into the factors' own memory rather than a copy."""
    condition = jax.lax.broadcast_in_dim(condition, F.shape, ())
    return jax.lax.select(condition, F, jax.lax.full_like(F, np.nan))


def along(
    matrix: Inexact[Array, "m n"], x: Inexact[Array, "..."], axis: int
) -> Inexact[Array, "..."]:
    """A matrix, applied to one axis of an array."""
    y = jnp.tensordot(matrix, x, ((1,), (axis,)), precision=HIGHEST)
    return jnp.moveaxis(y, 0, axis)


def outside(
    basis: Inexact[Array, "n k"], counts: Bool[Array, " k"], v: Inexact[Array, " n"]
) -> Inexact[Array, " n"]:
    """v without its parts along those orthonormal columns that count."""
    c = jnp.matmul(basis.T.conj(), v, precision=HIGHEST)
    c = jnp.where(counts, c, jnp.zeros_like(c))
    return v - jnp.matmul(basis, c, precision=HIGHEST)


def permuted(x: Array, p: Int[Array, " n"]) -> Array:
    """x[p] of a permutation, whose bounds need no check."""
    if is_known(p.size) and p.size == 0:
        return x
    along_others = tuple(range(1, x.ndim))
    return jax.lax.gather(
        x,
        jax.lax.expand_dims(p, (1,)),
        jax.lax.GatherDimensionNumbers(along_others, (0,), (0,)),
        slice_sizes=(1, *x.shape[1:]),
        mode=jax.lax.GatherScatterMode.PROMISE_IN_BOUNDS,
    )


def inverse_permutation(p: Int[Array, " n"]) -> Int[Array, " n"]:
    """x[p] = z is x = z[inverse]: gathering is faster than scattering, and a sort
    compiles faster than the scatter that would make the inverse."""
    _, inverse = jax.lax.sort((p, jax.lax.iota(p.dtype, p.size)), num_keys=1)
    return inverse


def reciprocal_condition(
    T: Inexact[Array, "n n"],
    lengths: Real[Array, " n"],
    *,
    lower: bool = False,
    power: int = 1,
) -> tuple[Real[Array, ""], Bool[Array, ""]]:
    """An estimate of 1/‖T⁻¹‖ for a triangular factor, with its columns (rows, if it is
    lower triangular) scaled to length one; 0 if a pivot is zero or not finite.

    It comes from one step of inverse iteration on TᴴT (on TTᴴ, if lower triangular):
    ‖T⁻¹‖ ≥ ‖T⁻¹T⁻ᴴz‖/‖T⁻ᴴz‖, and where T is near singular the two are close for all but
    hardly any z.

    Args:
        T: the factor; only its triangle is read.
        lengths: of its columns (rows), in any norm.
        lower: which triangle.
        power: 2 for the estimate of 1/‖T⁻¹‖², if the matrix in question is TTᴴ.

    Returns:
        The estimate, and whether it is at most `singular_below`: by a comparison that
        needs neither its quotient nor its root, which are left out where only the
        status is used.
    """
    if lengths.size == 0:
        return jnp.ones((), lengths.dtype), jnp.zeros((), bool)
    z = variates((lengths.size,), T.dtype)
    lengths = cast(lengths, T.dtype)
    y = solve_triangular(T, jax.lax.mul(z, lengths), lower=lower, adjoint=not lower)
    x = solve_triangular(T, y, lower=lower, adjoint=lower)
    X, Y = _squares(jax.lax.mul(x, lengths), y)
    small = np.asarray(singular_below(T.dtype) ** (2 / power), X.dtype)
    # a zero pivot makes X infinite or NaN, for which comparisons are false
    singular = jax.lax.bitwise_not(jax.lax.lt(jax.lax.mul(small, X), Y))
    zero = jax.lax.full_like(Y, 0)
    known = jax.lax.bitwise_and(jax.lax.is_finite(X), jax.lax.gt(Y, zero))
    ratio = jax.lax.select(known, jax.lax.div(Y, X), zero)
    return (ratio if power == 2 else jax.lax.sqrt(ratio)), singular


def clearly_nonsingular(
    diagonal: Inexact[Array, " n"], lengths: Real[Array, " n"], *, power: int = 1
) -> Bool[Array, ""]:
    """Whether the diagonal of a triangular factor T shows that `reciprocal_condition`
    would not call it singular: sufficient, not necessary.

    Let M be T with its columns (rows, if lower triangular) scaled to 2-norm one, and
    σ₁ ≥ … ≥ σₙ its singular values. The sum of their squares is n, so by the inequality
    of means

        (det M / σₙ)² = σ₁² ⋯ σₙ₋₁² ≤ (n / (n - 1))ⁿ⁻¹ < e,    σₙ > |det M| / √e.

    (Yu and Gu 1997, Linear Algebra and its Applications 253, for any matrix.) The
    estimate is no less than σₙ but for rounding: it is that of M + E, with another E in
    each of its two solves, and ‖E‖ ≤ γₙ ‖|M|‖ ≤ 2 n^(3/2) eps (Higham, "Accuracy and
    Stability of Numerical Algorithms", 2nd ed., 2002, theorem 8.5). So, if s is what it
    is compared with, |det M| > 2 (s + 4 n^(3/2) eps) is enough: 2 > √e leaves room for
    the rounding of det M and of the lengths.

    Args:
        diagonal: of T.
        lengths: the 2-norms of T's columns (rows).
        power: as in `reciprocal_condition`.
    """
    det = jnp.prod(jnp.abs(diagonal) / lengths)
    s = singular_below(diagonal.dtype) ** (1 / power)
    rounding = diagonal.size * sqrt_of(diagonal.size) * eps(diagonal.dtype)
    return det > 2 * (s + 4 * rounding)


def singular_below(dtype: Any) -> float:
    """The reciprocal of the condition number from which on a factor is singular: 4 eps,
    or 8 eps for complex numbers, whose products have errors about twice as large
    (Higham, lemma 3.5)."""
    return (8 if jnp.issubdtype(dtype, jnp.complexfloating) else 4) * eps(dtype)


def grown_above(dtype: Any) -> float:
    """The growth of the elements from which on factors are unstable: their backward
    error may then be above √eps."""
    return eps(dtype) ** 0.5 / (4 * eps(dtype))


def _squares(*xs: Inexact[Array, " n"]) -> tuple[Real[Array, ""], ...]:
    """‖x‖² of several vectors in one kernel, as in `largest_each`."""
    sizes = tuple(map(jax.lax.abs, xs))
    squares = tuple(jax.lax.mul(size, size) for size in sizes)
    zeros = tuple(np.zeros((), square.dtype) for square in squares)
    return tuple(jax.lax.reduce(squares, zeros, _sums, (0,)))


def _sums(some: tuple[Array, ...], others: tuple[Array, ...]) -> tuple[Array, ...]:
    """Not within `_squares`: JAX compiles an eager reduction once for each function."""
    return tuple(map(jax.lax.add, some, others))


def rcond_or_default(rcond: Any, size: int, dtype: Any) -> Array:
    """The relative size below which a value counts as zero: 2·size·eps by default."""
    if rcond is None:
        rcond = 2 * size * eps(dtype)
    return jnp.asarray(rcond, complex_to_real_dtype(dtype))


def pseudoinverse(
    values: Real[Array, " k"], rcond: Any, size: int, dtype: Any, damp: Any = 0.0
) -> tuple[Real[Array, " k"], Array]:
    """Inverses of singular values or eigenvalues, 0 for those that count as zero.

    Args:
        values: the values.
        rcond, size, dtype: as in `rcond_or_default`.
        damp: each value v becomes v/(v² + damp²), computed as (v/d)/(d·(1 + (e/d)²)),
            where d is the larger of |v| and `damp`, and e the smaller.

    Returns:
        The inverses, and the number of values that count.
    """
    size_of = jnp.abs(values)
    counts = size_of > rcond_or_default(rcond, size, dtype) * largest(values)
    rank = jnp.sum(counts, dtype=jnp.int32)
    if is_zero(damp):
        safe = jnp.where(counts, values, jnp.ones_like(values))
        return jnp.where(counts, 1 / safe, jnp.zeros_like(values)), rank
    damp = jnp.asarray(damp, values.dtype)
    d, e = jnp.maximum(size_of, damp), jnp.minimum(size_of, damp)
    safe = jnp.where(d == 0, jnp.ones_like(d), d)
    return values / safe / (1 + (e / safe) ** 2) / safe, rank


def reciprocals(
    values: Inexact[Array, "..."], *, well_posed: bool, rcond: Any, size: int
) -> tuple[Inexact[Array, "..."], Int[Array, ""], Real[Array, ""]]:
    """Inverses of the eigenvalues of a normal matrix, 0 for those that count as zero.

    Args:
        values: the eigenvalues.
        well_posed: whether only exact zeros count as zero.
        rcond, size: as in `rcond_or_default`.

    Returns:
        The inverses, the number of values that count, and the ratio of the smallest to
        the largest, in modulus.
    """
    sizes, most = jnp.abs(values), largest(values)
    counts = sizes > 0
    if not well_posed:
        counts &= sizes > rcond_or_default(rcond, size, values.dtype) * most
    inverse = 1 / jnp.where(counts, values, jnp.ones_like(values))
    inverse = jnp.where(counts, inverse, jnp.zeros_like(values))
    least = jnp.min(sizes, initial=jnp.inf)
    ratio = least / jnp.where(most == 0, jnp.ones_like(most), most)
    return inverse, jnp.sum(counts, dtype=jnp.int32), ratio


def judge(
    finite: Bool[Array, ""] | Literal[True] = True,
    *,
    singular: Bool[Array, ""] | Literal[False] = False,
    unstable: Bool[Array, ""] | Literal[False] = False,
) -> RESULTS:
    """The verdict; the first that applies of not finite, unstable and singular."""
    result = RESULTS.successful
    for failed, item in ((singular, RESULTS.singular), (unstable, RESULTS.unstable)):
        if not isinstance(failed, bool):
            result = choose(failed, item, result)
    if isinstance(finite, bool):
        return result
    return choose(finite, result, RESULTS.nonfinite_input)
