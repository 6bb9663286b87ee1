"""Determinants from the factors of a solve.

With A nonsingular, d log det A = tr(A⁻¹ dA) (Jacobi), whose real part is the derivative
of log|det A| and whose imaginary part turns the sign. For triangular operators only the
diagonals count (a unit diagonal has no tangent). Solvers of structured operators get
the trace from their factors. For others A⁻¹ is formed, by n solves with the existing
factors.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact, Real
from lx_operators import (
    AbstractLinearOperator,
    TangentLinearOperator,
    diagonal,
    has_unit_diagonal,
    is_lower_triangular,
    is_upper_triangular,
)
from lx_operators.internal import (
    check_matrix,
    common_dtype,
    ravel,
    unravel,
    vary,
    varying_axes,
)
from lx_solvers import AbstractLinearSolver, AutoLinearSolver
from lx_solvers.internal import has_trace, slogdet_of, trace_of

from ._arguments import NO_STATE, check_one, check_solve
from ._compiled import Compiled, is_eager, is_quick
from ._method import Method, Problem, formed, prepare, set_up
from ._partition import Static, split, stop_gradient
from ._primitive import solve
from ._sharding import on_automatic_axes
from ._unit_vectors import elements, product, solved

_FEW = 256  # unknowns up to which an n × n array does no harm


class SignAndLog(NamedTuple):
    """det A = sign · exp(logabsdet)."""

    sign: Inexact[Array, ""]
    logabsdet: Real[Array, ""]


def slogdet(
    operator: AbstractLinearOperator,
    solver: AbstractLinearSolver = AutoLinearSolver(well_posed=True),
    *,
    options: dict[str, Any] | None = None,
    state: Any = NO_STATE,
) -> SignAndLog:
    """The sign, and the logarithm of the absolute value, of a determinant.

    Differentiable with respect to `operator`, in both modes and to any order, without a
    second factorisation.

    Args:
        operator: a square operator of matrix shape `[n, n]`.
        solver: the solver whose factors are used: `LU`, `QR`, `Cholesky`, `Triangular`,
            `Diagonal`, `Tridiagonal`, `Eigh`, `Refined` of these, or the automatic
            choice.
        options: as in `linear_solve`.
        state: the state of an earlier solve with this operator and solver, to reuse its
            factors.

    Returns:
        `(sign, logabsdet)`: a scalar of modulus 1, and a real scalar. They are 0 and −∞
        if the operator is singular to working precision, and NaN if the factors are
        unstable or not finite. Derivatives are then NaN.

    Raises:
        ValueError: the operator is not square, or the solver has no determinant.

    ```python
    matrix = jnp.array([[2.0, 1.0], [1.0, 3.0]])
    operator = lx.MatrixLinearOperator(matrix, lx.positive_semidefinite_tag)
    vector = jnp.array([3.0, 4.0])
    solution = lx.linear_solve(operator, vector, lx.Cholesky())
    sign, logabsdet = lx.slogdet(operator, lx.Cholesky(), state=solution.state)
    ```
    """
    problem = square_problem(operator, solver, options, state, "a determinant")
    if is_eager():  # no derivative is asked for
        arrays, static = split(problem.forward.state)
        quickly = is_quick(problem.operator.in_structure())
        return SignAndLog(*_slogdet_of(static, *arrays, quickly=quickly))
    arrays, static = split(problem)
    return SignAndLog(*on_automatic_axes(_slogdet)(static, *arrays))


def square_problem(
    operator: AbstractLinearOperator,
    solver: AbstractLinearSolver,
    options: dict[str, Any] | None,
    state: Any,
    what: str,
) -> Problem:
    """The problem of a square operator, with the state that is given or one of its own.

    Args:
        operator, solver, options, state: as in `slogdet`.
        what: what is asked for, for the text of the error.
    """
    check_solve(operator, solver)
    check_one(operator)
    operator = formed(operator, solver)
    m, n = operator.out_size(), operator.in_size()
    if m != n:
        raise ValueError(
            f"only square operators have {what}, but `operator` is {m} by {n}: "
            f"{operator!r}."
        )
    options = {} if options is None else options
    if state is NO_STATE:
        method = prepare(operator, set_up(solver, operator), options)
    else:
        method = Method(solver, stop_gradient(state), stop_gradient(options))
    return Problem(operator, method)


def logdet(
    operator: AbstractLinearOperator,
    solver: AbstractLinearSolver = AutoLinearSolver(well_posed=True),
    *,
    options: dict[str, Any] | None = None,
    state: Any = NO_STATE,
) -> Inexact[Array, ""]:
    """The logarithm of a determinant, log det A.

    Args:
        operator, solver, options, state: as in `slogdet`.

    Returns:
        A scalar. For a real operator it is NaN if the determinant is negative; for a
        complex one it is the principal value, which is real if the operator is
        definite.

    ```python
    matrix = jnp.array([[2.0, 1.0], [1.0, 3.0]])  # a Gaussian's covariance, say
    operator = lx.MatrixLinearOperator(matrix, lx.positive_semidefinite_tag)
    lx.logdet(operator, lx.Cholesky())  # log 5
    ```
    """
    sign, logabsdet = slogdet(operator, solver, options=options, state=state)
    if jnp.iscomplexobj(sign):
        angle = jnp.angle(sign)
        return jax.lax.complex(logabsdet, angle.astype(logabsdet.dtype))
    return logabsdet * jnp.where(sign < 0, jnp.nan, 1.0).astype(logabsdet.dtype)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _slogdet(static: Static, *arrays: Array) -> tuple[Array, Array]:
    problem = static.join(arrays)
    return slogdet_of(problem.forward.state)


@Compiled
@on_automatic_axes
def _slogdet_of(static: Static, *arrays: Array) -> tuple[Array, Array]:
    """In an eager call, from a state."""
    return slogdet_of(static.join(arrays))


@_slogdet.defjvp
def _slogdet_jvp(static: Static, arrays: Any, tangents: Any) -> Any:
    sign, logabsdet = _slogdet(static, *arrays)
    given, moving = nonzero(tangents)
    trace = _trace(static, given, list(arrays), moving)
    d_log = jnp.real(trace).astype(logabsdet.dtype)
    if jnp.iscomplexobj(sign):
        turn = jnp.imag(trace).astype(logabsdet.dtype)
        d_sign = sign * jax.lax.complex(jnp.zeros_like(turn), turn)
    else:
        d_sign = jnp.zeros_like(sign)
    return (sign, logabsdet), (d_sign, d_log)


def _trace(
    static: Static, given: tuple[bool, ...], arrays: list[Array], moving: list[Array]
) -> Inexact[Array, ""]:
    """tr(A⁻¹ dA)."""
    problem, tangent = moved(static, given, arrays, moving)
    if not has_trace(problem.forward.state):
        return _dense_trace(problem, tangent)
    real, *imaginary = (
        jnp.asarray(sum(jnp.sum(jnp.real(g * t)) for g, t in zip(gradient, moving)))
        for gradient in _gradients(static, given, arrays)
    )
    return jax.lax.complex(real, *imaginary) if imaginary else real


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _gradients(
    static: Static, given: tuple[bool, ...], arrays: list[Array]
) -> list[list[Array]]:
    """G with tr(A⁻¹ dA) = Σ Re(G dA), and of a complex operator one more, for the
    imaginary part: from the factors of a structured solver."""

    def trace(problem: Problem, tangent: TangentLinearOperator) -> Array:
        method = problem.forward
        own = trace_of(method.state, method.solver, tangent)
        return _dense_trace(problem, tangent) if own is None else own

    return _transposed(trace, static, given, arrays)


@_gradients.defjvp
def _gradients_jvp(static: Static, given: tuple[bool, ...], primals: Any, moved: Any):
    """Factors carry no tangent: further derivatives are those of the dense formula."""

    def dense(arrays: list[Array]) -> list[list[Array]]:
        return _transposed(_dense_trace, static, given, arrays)

    _, tangents = jax.jvp(dense, primals, moved)
    return _gradients(static, given, *primals), tangents


def _transposed(
    trace: Any, static: Static, given: tuple[bool, ...], arrays: list[Array]
) -> list[list[Array]]:
    """The transpose of the real part of the trace, and of its imaginary part."""
    zeros = [jnp.zeros_like(x) for x, yes in zip(arrays, given) if yes]
    out, pull = jax.vjp(lambda dA: trace(*moved(static, given, arrays, dA)), zeros)
    units = (1, -1j) if jnp.iscomplexobj(out) else (1,)
    axes = varying_axes(out)
    return [pull(vary(jnp.asarray(unit, out.dtype), axes))[0] for unit in units]


def nonzero(tangents: Sequence[Array]) -> tuple[tuple[bool, ...], list[Array]]:
    """Which arrays have tangents, and these."""
    given = tuple(t.dtype != jax.dtypes.float0 for t in tangents)
    return given, [t for t, yes in zip(tangents, given) if yes]


def moved(
    static: Static, given: tuple[bool, ...], arrays: list[Array], moving: list[Array]
) -> tuple[Problem, TangentLinearOperator]:
    each = iter(moving)
    problem = static.join(arrays)
    tangents = static.join_tangents([next(each) if yes else None for yes in given])
    return problem, TangentLinearOperator(problem.operator, tangents.operator)


def _dense_trace(
    problem: Problem, tangent: TangentLinearOperator
) -> Inexact[Array, ""]:
    """tr(A⁻¹ dA)."""
    operator = problem.operator
    structure = operator.out_structure()
    dtype = common_dtype(operator.in_structure(), structure)
    if is_lower_triangular(operator) or is_upper_triangular(operator):
        if has_unit_diagonal(operator):
            return jnp.zeros((), dtype)
        return jnp.sum(diagonal(tangent) / diagonal(operator))
    if has_trace(problem.forward.state) and operator.in_size() > _FEW:
        return jnp.sum(
            elements(problem, lambda unit: solved(problem, product(tangent, unit)))
        )

    check_matrix(
        operator,
        "The derivative of `slogdet`",
        "The solvers `Diagonal`, `Tridiagonal`, `Banded`, `BlockTridiagonal` and "
        "`SparseLU` need no matrix for a first derivative, if the operator has their "
        "structure.",
        held=problem.forward.state,
    )

    def column(unit: Array) -> Array:
        x, _, _ = solve(problem, unravel(unit, structure), "nan", "tangent")
        return ravel(x, dtype)

    eye = jnp.eye(operator.out_size(), dtype=dtype)
    inverse_transposed = jax.vmap(column)(eye)
    return jnp.sum(inverse_transposed * tangent.as_matrix())
