"""Sign and logarithm of the determinant, from the factors a solver already has; and
the trace that is its derivative."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Inexact, Real
from lx_operators import (
    AbstractLinearOperator,
    TangentLinearOperator,
    diagonal,
    has_unit_diagonal,
    is_lower_triangular,
    is_upper_triangular,
)
from lx_operators.internal import check_matrix, common_dtype, ravel, unravel

from ._results import code
from ._solution import RESULTS

_NO_MATRIX = (
    "A part of the operator is that large; make it a diagonal, tridiagonal, banded or "
    "block tridiagonal operator, whose factors tell the derivative."
)

SignAndLog = tuple[Inexact[Array, ""], Real[Array, ""]]


@functools.singledispatch
def slogdet_of(state: Any) -> SignAndLog:
    """The determinant of the operator that a solver's state is of.

    Each direct solver registers how its own state answers, by the type of the state.

    Args:
        state: what the solver's `init` returned, possibly transposed or conjugated.

    Returns:
        The sign, of modulus one, and log |det A|; 0 and -∞ if A is singular to working
        precision, NaN if the factors cannot be used (`nonfinite_input`, `unstable`).

    Raises:
        ValueError: a state without a determinant in it, or of a non-square operator.
    """
    raise ValueError(
        f"no determinant can be read from a state of type `{type(state).__name__}`; "
        "use `LU`, `QR`, `Cholesky`, `Diagonal`, `Triangular`, `Tridiagonal` or `Eigh`."
        " A solver of your own registers how: `lx_solvers.internal.slogdet_of`."
    )


def check_determinant(m: int, n: int, solver: str) -> None:
    if m != n:
        raise ValueError(
            f"only square operators have a determinant, but this state of `{solver}` "
            f"is of an operator whose matrix is {m} by {n}, or {n} by {m}."
        )


def slogdet_of_factors(
    factors: Inexact[Array, " n"],
    *,
    turned: bool = False,
    scales: tuple[Real[Array, " n"], ...] = (),
    odd: Bool[Array, ""] | None = None,
    verdict: RESULTS = RESULTS.successful,
) -> SignAndLog:
    """Sign and logarithm of the product of factors and scales.

    Args:
        factors: pivots or eigenvalues.
        turned: whether the determinant is the conjugate of that product.
        scales: what rows and columns were divided by.
        odd: whether the sign changes, as an odd number of rows was swapped.
        verdict: on the factors. `singular` makes the determinant zero, whatever the
            rounding errors in the pivots; any other failure makes it NaN.
    """
    size = jnp.abs(factors)
    zero = size == 0
    unit = factors / jnp.where(zero, jnp.ones_like(size), size).astype(factors.dtype)
    sign, log = jnp.prod(unit), jnp.sum(jnp.log(size))
    for scale in scales:
        log = log + jnp.sum(jnp.log(scale))
    if odd is not None:
        sign = jnp.where(odd, -sign, sign)
    sign = sign.conj() if turned and jnp.iscomplexobj(sign) else sign
    return judged_slogdet(verdict, sign, log)


def judged_slogdet(verdict: RESULTS, sign: Array, log: Array) -> SignAndLog:
    """Sign and logarithm of a determinant, as far as the factors can be trusted: 0 and
    -∞ if they are singular to working precision, NaN if they cannot be used."""
    worth = code(verdict)
    singular, fine = (
        jax.lax.eq(worth, code(item)) for item in (RESULTS.singular, RESULTS.successful)
    )
    nan = jnp.full_like(log, jnp.nan)
    log = jnp.where(fine, log, jnp.where(singular, -jnp.inf, nan))
    sign = jnp.where(fine, sign, jnp.where(singular, 0, nan).astype(sign.dtype))
    return sign, log


@functools.singledispatch
def trace_of(
    state: Any, solver: Any, tangent: TangentLinearOperator
) -> Inexact[Array, ""] | None:
    """tr(A⁻¹ dA), which is d log det A, from a state and without a dense matrix.

    Solvers of structured operators register how. It must be linear in the tangent, in
    operations that JAX can transpose; derivatives of it are taken elsewhere.

    Args:
        state: what `solver.init` returned for A.
        solver: the solver.
        tangent: A and dA.

    Returns:
        A scalar; None where there is no better way than through A⁻¹.
    """
    return None


def trace_of_part(
    state: Any, solver: Any, tangent: TangentLinearOperator
) -> Inexact[Array, ""]:
    """`trace_of`, of a part small enough for its inverse to be formed (which is not
    needed where only the diagonals enter)."""
    trace = trace_of(state, solver, tangent)
    if trace is not None:
        return trace
    primal = tangent.primal
    if is_lower_triangular(primal) or is_upper_triangular(primal):
        moves = jnp.zeros_like if has_unit_diagonal(primal) else jnp.asarray
        return jnp.sum(moves(diagonal(tangent)) / diagonal(primal))
    ins, outs = tangent.in_structure(), tangent.out_structure()
    dtype = common_dtype(ins, outs)
    check_matrix(primal, "The derivative of `slogdet`", _NO_MATRIX, held=state)

    def column(unit: Array) -> Array:
        x, _, _ = solver.compute(state, unravel(unit, outs), {})
        return ravel(x, dtype)

    inverse_transposed = jax.vmap(column)(jnp.eye(tangent.out_size(), dtype=dtype))
    return jnp.sum(inverse_transposed * tangent.as_matrix())


def tangent_of(
    fn: Callable[[AbstractLinearOperator], Array], tangent: TangentLinearOperator
) -> Array:
    """The tangent of an array that depends on the operator."""
    out, moved = eqx.filter_jvp(fn, (tangent.primal,), (tangent.tangent,))
    return jnp.zeros_like(out) if moved is None else moved


def part(
    take: Callable[[AbstractLinearOperator], AbstractLinearOperator],
    tangent: TangentLinearOperator,
) -> TangentLinearOperator:
    """The tangent of a part of an operator."""
    return TangentLinearOperator(take(tangent.primal), take(tangent.tangent))
