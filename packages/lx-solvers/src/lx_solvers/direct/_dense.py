"""What the dense direct solvers share: from pytrees to arrays and back, the four maps
A, Aᵀ, Ā, Aᴴ from the factors of one, and the verdict.

A dense solver keeps the factors of one matrix F and says how it solves with F and with
Fᴴ. As A is F, Fᴴ or a conjugate of these, transposing and conjugating a state
only turns two static switches: nothing is factorised or copied again.

What every solve goes through is written in JAX's primitives: to trace and to compile
`jax.numpy`'s own checks and casts would take longer than the factorisation's call.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Inexact, Int, PyTree, Real
from lx_operators import AbstractLinearOperator
from lx_operators.internal import (
    PackedStructures,
    cast,
    common_dtype,
    complex_to_real_dtype,
    is_real,
    promote_types,
    ravel,
    ravel_vector,
    transpose_packed_structures,
    unravel,
    unravel_solution,
)

from .._results import all_finite, choose, code, judged
from .._solution import RESULTS
from ._order import after

HIGHEST = jax.lax.Precision.HIGHEST


class View(NamedTuple):
    """Which of F, Fᴴ, F̄, Fᵀ the operator is: first the adjoint, then the conjugate."""

    adjoint: bool = False
    conjugate: bool = False


class DenseState(Protocol):
    """What every dense solver's state, a module, has besides its factors."""

    @property
    def verdict(self) -> RESULTS:
        """What the factors say: `successful`, or why no solve can be."""
        ...

    @property
    def packed(self) -> PackedStructures: ...

    @property
    def view(self) -> View: ...


_State = TypeVar("_State", bound=DenseState)


def transpose(state: _State) -> _State:
    """The state for Aᵀ: the conjugate of the adjoint."""
    state = conj(state)
    view = state.view._replace(adjoint=not state.view.adjoint)
    packed = transpose_packed_structures(state.packed)
    return _replace(state, packed=packed, view=view)


def conj(state: _State) -> _State:
    """The state for Ā: of a real operator the same, for which all is compiled."""
    if is_real(state.packed.in_structure.thaw(), state.packed.out_structure.thaw()):
        return state
    view = state.view._replace(conjugate=not state.view.conjugate)
    return _replace(state, view=view)


def _replace(state: Any, **fields: Any) -> Any:
    return dataclasses.replace(state, **fields)


def working_dtype(dtype: Any) -> np.dtype:
    """What LAPACK can do: half precision is computed in float32 and cast back."""
    return promote_types(dtype, jnp.float32)


def dense_matrix(operator: AbstractLinearOperator) -> Inexact[Array, "m n"]:
    """The operator's matrix, in the dtype that the solver computes in.

    It carries no tangent: factors are never differentiated (not all of JAX's
    factorisations can be), derivatives of solutions come from `linear_solve`.
    """
    matrix = jax.lax.stop_gradient(operator.as_matrix())
    return cast(matrix, working_dtype(matrix.dtype))


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
    A = jax.lax.mul(A, jax.lax.full_like(A, cast(_reciprocal(scale), A.dtype)))
    return jax.lax.select(finite, A, jax.lax.full_like(A, 0)), scale, finite


def equilibrated(
    A: Inexact[Array, "m n"],
) -> tuple[Inexact[Array, "m n"], Real[Array, " m"], Bool[Array, ""]]:
    """A with its rows divided by powers of two, so that the largest element of each is
    of order one; these powers; and whether A is finite."""
    sizes = largest(A, axis=1)
    scales = power_of_two(sizes)
    by = jax.lax.broadcast_in_dim(cast(_reciprocal(scales), A.dtype), A.shape, (0,))
    return jax.lax.mul(A, by), scales, all_finite(sizes)


class Tall(NamedTuple):
    """A as F or Fᴴ, with at least as many rows as columns, and scaled."""

    F: Inexact[Array, "p k"]  # with damping, `damp` times the identity stands above
    rows: Real[Array, " m"]  # A is diag(rows) F, or its adjoint
    finite: Bool[Array, ""]
    view: View


def tall(A: Inexact[Array, "m n"], damp: Any = 0.0, equilibrate: bool = False) -> Tall:
    """A in the form that QR factorises.

    A wide A is taken as the adjoint of a tall one. Damping makes the problem that of
    [damp·I; F], which solves min ‖Fx - b‖² + damp²‖x‖² without a square (Golub and
    Van Loan, 4th ed., section 6.1.4), and of minimum norm [damp·I, Fᴴ] for the adjoint.
    In this order reflections do not mix the rows of the identity, and F below a large
    `damp` keeps its relative accuracy.

    All is scaled by a power of two, away from both ends of the range; or each row by
    its own, with `equilibrate`, where A is square: only then is the solution the same.
    """
    wide = A.shape[0] < A.shape[1]
    F = A.T.conj() if wide else A
    m, k = F.shape
    view = View(adjoint=wide, conjugate=False)
    if equilibrate and m == k and is_zero(damp):
        return Tall(*equilibrated(F), view)
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
    return Tall(F, jnp.full(m, scale), finite, view)


def solve(
    state: DenseState,
    vector: PyTree[Array],
    dtype: Any,
    solve_with: Callable[[Inexact[Array, " m"], bool], Inexact[Array, " n"]],
) -> tuple[PyTree[Array], RESULTS]:
    """One solve from pytree to pytree.

    Args:
        state: of a dense solver.
        vector: b, of the operator's output structure.
        dtype: of the factors.
        solve_with: from b and `adjoint`, the flat solution with F, or with Fᴴ.

    Returns:
        The solution, and how the solve ended: the verdict on the factors, unless the
        vector or the solution is not finite.
    """
    b = ravel_vector(vector, state.packed)
    dtype = working_dtype(dtype)
    if promote_types(b.dtype, dtype) != dtype:
        raise ValueError(
            f"the vector has dtype {b.dtype}, which the operator's {dtype} cannot "
            "hold; cast the vector, or use `linear_solve`, which promotes the operator."
        )
    b = after(cast(b, dtype), code(state.verdict))  # the verdict's calls of LAPACK
    x = _conj_if(state.view.conjugate, b)
    x = _conj_if(state.view.conjugate, solve_with(x, state.view.adjoint))
    result = judged(state.verdict, b, x)
    narrow = common_dtype(state.packed.in_structure.thaw())
    if narrow != x.dtype and working_dtype(narrow) == x.dtype:  # half precision
        x = cast(x, narrow)
    return unravel_solution(x, state.packed), result


def within(
    state: DenseState,
    vector: PyTree[Array],
    dtype: Any,
    project: Callable[[Inexact[Array, " n"], bool], Inexact[Array, " n"]],
) -> PyTree[Array]:
    """A linear map of the operator's input structure into itself.

    Args:
        state, dtype: as in `solve`.
        vector: of the operator's input structure.
        project: from a flat vector and `adjoint`, the map that belongs to F, or to Fᴴ.
    """
    structure = state.packed.in_structure.thaw()
    v = _conj_if(state.view.conjugate, ravel(vector, working_dtype(dtype)))
    v = _conj_if(state.view.conjugate, project(v, state.view.adjoint))
    return unravel(cast(v, common_dtype(structure)), structure)


def outside(
    basis: Inexact[Array, "n k"], counts: Bool[Array, " k"], v: Inexact[Array, " n"]
) -> Inexact[Array, " n"]:
    """v without its parts along those orthonormal columns that count."""
    c = jnp.matmul(basis.T.conj(), v, precision=HIGHEST)
    c = jnp.where(counts, c, jnp.zeros_like(c))
    return v - jnp.matmul(basis, c, precision=HIGHEST)


def judge(
    finite: Bool[Array, ""],
    singular: Bool[Array, ""] | Literal[False] = False,
    unstable: Bool[Array, ""] | Literal[False] = False,
) -> RESULTS:
    """The verdict; what comes first counts."""
    result = RESULTS.successful
    for failed, item in ((singular, RESULTS.singular), (unstable, RESULTS.unstable)):
        if not isinstance(failed, bool):
            result = choose(failed, item, result)
    return choose(finite, result, RESULTS.nonfinite_input)


def eps(dtype: Any) -> float:
    """The distance from one to the next number."""
    return float(jnp.finfo(dtype).eps)


def largest(x: Inexact[Array, "..."], axis: int | None = None) -> Real[Array, "..."]:
    """max |xᵢ|, 0 of nothing; NaN if any is NaN, so that it also tells finiteness.

    The modulus of a complex number, which is slow, is replaced by its norm
    max(|re|, |im|).
    """
    parts = (jax.lax.real(x), jax.lax.imag(x)) if jnp.iscomplexobj(x) else (x,)
    sizes = functools.reduce(jax.lax.max, [jax.lax.abs(part) for part in parts])
    if 0 in x.shape:
        return jnp.max(sizes, axis=axis, initial=0)
    axes = range(x.ndim) if axis is None else (axis,)
    if x.size < _MANY:
        return jax.lax.reduce_max(sizes, axes)
    # of floats ≥ 0 the bits have the same order, NaN last
    bits = jnp.dtype(f"int{jnp.finfo(sizes.dtype).bits}")
    most = jax.lax.reduce_max(jax.lax.bitcast_convert_type(sizes, bits), axes)
    return jax.lax.bitcast_convert_type(most, sizes.dtype)


# From some thousand elements on XLA's maximum of floats drops NaNs (JAX 0.10, on
# processors with AVX-512).
_MANY = 512


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


def is_zero(damp: Any) -> bool:
    """Whether `damp` is known to be nothing (an array is not known)."""
    return isinstance(damp, bool | int | float) and damp == 0


def check_damp(damp: Any) -> None:
    if isinstance(damp, bool | int | float) and not 0 <= damp < math.inf:
        raise ValueError(
            f"`damp` must be a finite number of at least 0, but got {damp}; it is the "
            "root of λ in ‖Ax - b‖² + λ‖x‖²."
        )


def power_of_two(x: Real[Array, "..."]) -> Real[Array, "..."]:
    """The power of two nearest to x, kept so far from the ends of the range that it
    can be divided by; 1 where x is 0 or not finite.

    Scaling by it is exact: it only guards against overflow and underflow.
    """
    info = jnp.finfo(x.dtype)
    positive = jax.lax.gt(x, jax.lax.full_like(x, 0))
    usable = jax.lax.bitwise_and(positive, jax.lax.is_finite(x))
    x = jax.lax.select(usable, x, jax.lax.full_like(x, 1))
    least, most = 2.0 ** (info.minexp + 2), 2.0 ** (info.maxexp - 2)
    x = jax.lax.clamp(np.asarray(least, x.dtype), x, np.asarray(most, x.dtype))
    return jax.lax.reduce_precision(x, info.nexp, 0)  # no bit of the mantissa


def _reciprocal(power: Real[Array, "..."]) -> Real[Array, "..."]:
    """1/x of `power_of_two`, by its exponent: without a division, XLA computes it in
    the loop over the elements that it scales."""
    info = jnp.finfo(power.dtype)
    integer = jnp.dtype(f"int{info.bits}")
    of_square = np.asarray((2 * info.maxexp - 2) << info.nmant, integer)  # of 1 · 1
    bits = jax.lax.bitcast_convert_type(power, integer)
    bits = jax.lax.sub(jax.lax.full_like(bits, of_square), bits)
    return jax.lax.bitcast_convert_type(bits, power.dtype)


def near_singular(
    T: Inexact[Array, "n n"],
    lengths: Real[Array, " n"],
    *,
    lower: bool = False,
    power: int = 1,
) -> Bool[Array, ""]:
    """Whether a triangular factor is singular to working precision.

    One step of inverse iteration on TᴴT, for upper T with columns scaled to length one
    (on TTᴴ, for lower T with rows so scaled): ‖T⁻¹‖ ≥ ‖T⁻¹T⁻ᴴz‖/‖T⁻ᴴz‖, and where T is
    near singular the two are close for all but hardly any z. Singular means: the bound,
    to the given power, is at least 1/(4 eps), or 1/(8 eps) of complex numbers, whose
    products have errors about twice as large (Higham, lemma 3.5).

    Args:
        T: the factor; only its triangle is read.
        lengths: of its columns (rows), in any norm.
        lower: which triangle.
        power: 2 if the matrix in question is TTᴴ.
    """
    n = lengths.size
    if n == 0:
        return jnp.zeros((), bool)
    z = np.random.default_rng(0).standard_normal(n).astype(T.dtype)
    lengths = cast(lengths, T.dtype)
    y = triangular(T, jax.lax.mul(z, lengths), lower=lower, adjoint=not lower)
    x = triangular(T, y, lower=lower, adjoint=lower)
    # a zero pivot makes these infinite or NaN, for which the comparison is false
    X, Y = _square(jax.lax.mul(x, lengths)), _square(y)
    small = np.asarray(singular_below(T.dtype) ** (2 / power), X.dtype)
    return jax.lax.bitwise_not(jax.lax.lt(jax.lax.mul(small, X), Y))


def singular_below(dtype: Any) -> float:
    """The reciprocal of the condition number from which on a factor is singular."""
    return (8 if jnp.issubdtype(dtype, jnp.complexfloating) else 4) * eps(dtype)


def _square(x: Inexact[Array, " n"]) -> Real[Array, ""]:
    """‖x‖²."""
    size = jax.lax.abs(x)
    return jax.lax.reduce_sum(jax.lax.mul(size, size), (0,))


def triangular(
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


def diagonal(matrix: Inexact[Array, "n n"]) -> Inexact[Array, " n"]:
    """The diagonal, as a slice of the elements: no gather."""
    n = len(matrix)
    if n == 0:
        return jnp.diagonal(matrix)
    return jax.lax.slice(matrix.reshape(n * n), (0,), (n * n,), (n + 1,))


def along(
    matrix: Inexact[Array, "m n"], x: Inexact[Array, "..."], axis: int
) -> Inexact[Array, "..."]:
    """A matrix, applied to one axis of an array."""
    y = jnp.tensordot(matrix, x, ((1,), (axis,)), precision=HIGHEST)
    return jnp.moveaxis(y, 0, axis)


def real_dtype(x: Array) -> np.dtype:
    return complex_to_real_dtype(x.dtype)


def householder(
    F: Inexact[Array, "m k"],
) -> tuple[Inexact[Array, "m k"], Inexact[Array, " k"]]:
    """R and the reflectors of F = QR in LAPACK's packed form, m ≥ k."""
    if 0 in F.shape:  # LAPACK does not survive it
        return F, jnp.zeros(F.shape[1], F.dtype)
    h, taus = jnp.linalg.qr(F, mode="raw")
    return h.T, taus


def permuted(x: Array, p: Int[Array, " n"]) -> Array:
    """x[p] of a permutation, whose bounds need no check."""
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


def check_determinant(m: int, n: int, solver: str) -> None:
    if m != n:
        raise ValueError(
            f"only square operators have a determinant, but this state of `{solver}` "
            f"is of an operator whose matrix is {m} by {n}, or {n} by {m}."
        )


def slogdet(
    factors: Inexact[Array, " n"], view: View = View(), rows: Array | None = None
) -> tuple[Inexact[Array, ""], Real[Array, ""]]:
    """Sign and logarithm of the product of `rows · factors`, as F's or this view's."""
    size = jnp.abs(factors)
    zero = size == 0
    unit = factors / jnp.where(zero, jnp.ones_like(size), size).astype(factors.dtype)
    sign = _conj_if(view.adjoint != view.conjugate, jnp.prod(unit))
    logabs = jnp.sum(jnp.log(size))
    if rows is not None:
        logabs = logabs + jnp.sum(jnp.log(rows))
    return sign, logabs


def _conj_if(condition: bool, x: Array) -> Array:
    return jnp.conj(x) if condition and jnp.iscomplexobj(x) else x
