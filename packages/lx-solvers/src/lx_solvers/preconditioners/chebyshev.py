"""A polynomial of the operator."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike
from lx_operators import (
    AbstractLinearOperator,
    SparseLinearOperator,
    conj,
    diagonal,
    is_negative_semidefinite,
    is_positive_semidefinite,
    linearise,
)
from lx_operators.internal import unwrapped

from .._control_flow import scan
from ._flat import as_matvec, dtype_of, on_flat
from ._lanczos import largest_eigenvalue
from ._preconditioner import AbstractPreconditioner, definite_tags


class ChebyshevState(eqx.Module):
    """The state of `Chebyshev`."""

    operator: AbstractLinearOperator
    inverse: Array | None
    """1 / D, if A is scaled by its diagonal."""
    coefficients: Array
    """α and β of each step, `[degree, 2]`: d ← α d + β D⁻¹ r, x ← x + d."""
    most: Array
    """The upper end of the interval."""


class Chebyshev(AbstractPreconditioner[ChebyshevState]):
    """A few steps of Chebyshev's iteration, for semidefinite operators: a polynomial in
    A that is close to A⁻¹ on an interval. It has no inner products, so on many devices
    it communicates only in products with the operator.

    Saad 2003, alg. 12.1, doi:10.1137/1.9780898718003; as a smoother of multigrid
    methods Adams et al. 2003, doi:10.1016/S0021-9991(03)00194-3. Each application costs
    `degree - 1` products. M is definite even if A has eigenvalues below the interval.

    Args:
        degree: the degree of 1 - λ p(λ), where p(A) is M.
        bounds: the interval (a, b); b must not be less than the largest eigenvalue (of
            D⁻¹A, if scaled). By default b is found by some steps of Lanczos' process,
            and a = b / `ratio`.
        ratio: b / a, if `bounds` is not given. About the square of the degree suits an
            operator with a large condition number; 4 to 30 suits a smoother.
        scaled: whether A is scaled by its diagonal D, which `lx.diagonal` has to find.
        steps: the number of steps of Lanczos' process.

    Raises:
        ValueError: the operator is not known to be semidefinite; a degree below 1.

    ```python
    operator = lx.TridiagonalLinearOperator(4 * jnp.ones(9), jnp.ones(8), jnp.ones(8))
    operator = lx.TaggedLinearOperator(operator, lx.positive_semidefinite_tag)
    solver = lx.CG(preconditioner=lx.Chebyshev(degree=3))
    solution = lx.linear_solve(operator, jnp.ones(9), solver)
    ```
    """

    degree: int = eqx.field(static=True, default=4)
    bounds: tuple[ArrayLike, ArrayLike] | None = None
    ratio: ArrayLike = eqx.field(default=30.0, kw_only=True)
    scaled: bool = eqx.field(static=True, default=False, kw_only=True)
    steps: int = eqx.field(static=True, default=10, kw_only=True)
    part: ArrayLike | None = eqx.field(default=None, kw_only=True, repr=False)
    """b, relative to the largest row sum of |D⁻¹A|: what multigrid has found for
    operators like this one."""

    def __check_init__(self):
        if self.degree < 1:
            raise ValueError(
                f"`degree` of `Chebyshev` must be at least 1, but got {self.degree}."
            )

    def init(self, operator, options):
        positive = is_positive_semidefinite(operator)
        if not positive and not is_negative_semidefinite(operator):
            raise ValueError(
                "`Chebyshev` needs an operator that is tagged "
                "`positive_semidefinite_tag` or `negative_semidefinite_tag`, but got "
                f"{operator!r}."
            )
        real = jnp.finfo(dtype_of(operator)).dtype
        D = diagonal(operator) if self.scaled else None
        inverse = None if D is None else 1 / D
        sign = jnp.asarray(1 if positive or self.scaled else -1, real)
        linear = linearise(operator)
        if self.bounds is not None:
            least, most = (jnp.asarray(bound, real) for bound in self.bounds)
        else:
            if self.part is None:
                most = _largest_eigenvalue(linear, inverse, sign, self.steps)
            else:
                most = jnp.asarray(self.part, real) * _largest_row(
                    unwrapped(operator), inverse
                )
            most = sign * most.astype(real)
            least = most / jnp.asarray(self.ratio, real)
        coefficients = _coefficients(least, most, self.degree)
        return ChebyshevState(linear, inverse, coefficients, most)

    def apply(self, state, vector):
        def fn(r: Array) -> Array:
            d = _first(state, r)
            if self.degree == 1:
                return d
            x, *_ = _steps(state, (d, r, d), state.coefficients[1:])
            return x

        return on_flat(fn, vector)

    def transpose(self, state, options):
        return _turned(state, lambda A: A.T, lambda d: d), options

    def conj(self, state, options):
        return _turned(state, conj, jnp.conj), options

    def tags(self, operator):
        return definite_tags(operator)

    def watched(self, state):
        # the bound is found by products or sums that miss no entry
        return state.inverse, state.coefficients

    def calibrated(self, operator: SparseLinearOperator) -> "Chebyshev":
        """The same for operators similar to this concrete one. Their interval then
        takes one pass over the entries, while Lanczos' process takes many products. The
        bound has a margin: steps contract up to the sum of both bounds.

        Args:
            operator: A.
        """
        if self.bounds is not None or not operator.pattern.size:
            return self
        matrix = operator.to_scipy().tocsr()
        if self.scaled:
            d = matrix.diagonal()
            size = np.abs(d)
            if not size.all():  # to be told of by `init`
                return self
            root = 1 / np.sqrt(size)
            matrix = matrix.multiply((root * np.sign(d.real))[:, None])
            matrix = matrix.multiply(root[None, :]).tocsr()
            rows = np.asarray(abs(operator.to_scipy()).sum(axis=1)).ravel() / size
        else:
            rows = np.asarray(abs(matrix).sum(axis=1)).ravel()
        part = min(1.0, 1.1 * _host_eigenvalue(matrix) / float(rows.max()))
        # an array: a number would be compiled into the solve
        return dataclasses.replace(self, part=np.asarray(part))


def relaxed(state: ChebyshevState, b: Array, x: Array | None = None) -> Any:
    """The steps for A x = b: from zero, then also the residual; or from x, which is a
    part of the loop. Either way as many products as there are steps."""
    α_β = state.coefficients
    if x is not None:
        x, *_ = _steps(state, (x, b, x), α_β)
        return x
    d = _first(state, b)
    x, r, _ = _steps(state, (d, b, d), jnp.pad(α_β[1:], ((0, 1), (0, 0))))
    return x, r


def _first(state: ChebyshevState, r: Array) -> Array:
    d = r if state.inverse is None else state.inverse.astype(r.dtype) * r
    return state.coefficients[0, 1].astype(r.dtype) * d


def _steps(state: ChebyshevState, start: Any, coefficients: Array) -> Any:
    A = as_matvec(state.operator)

    def step(carry: Any, α_β: Array) -> Any:
        x, r, d = carry
        α, β = α_β.astype(r.dtype)
        r = r - A(d).astype(r.dtype)
        z = r if state.inverse is None else state.inverse.astype(r.dtype) * r
        d = α * d + β * z
        return (x + d, r, d), None

    carry, _ = scan(step, start, coefficients, inputs=(state, start))
    return carry


def _coefficients(least: Array, most: Array, degree: int) -> Array:
    θ, δ = (most + least) / 2, (most - least) / 2
    ρ = δ / θ
    found = [(jnp.zeros_like(θ), 1 / θ)]
    for _ in range(degree - 1):
        β = 2 / (2 * θ - δ * ρ)
        found.append((ρ * δ * β / 2, β))
        ρ = δ * β / 2
    return jnp.stack([jnp.stack(pair) for pair in found])


def _largest_eigenvalue(
    operator: AbstractLinearOperator, inverse: Array | None, sign: Array, steps: int
) -> Array:
    """The largest eigenvalue of ±A, or of D⁻½ A D⁻½ without the sign of D."""
    A, n, dtype = as_matvec(operator), operator.in_size(), dtype_of(operator)
    if inverse is None:
        B = lambda v: sign.astype(dtype) * A(v)  # noqa: E731
    else:
        root = jnp.sqrt(jnp.abs(inverse)).astype(dtype)
        flip = jnp.sign(inverse.real).astype(dtype)
        B = lambda v: flip * root * A(root * v)  # noqa: E731
    return largest_eigenvalue(B, n, dtype, max(min(steps, n), 1))


def _largest_row(operator: Any, inverse: Array | None) -> Array:
    """‖D⁻¹A‖∞, above all eigenvalues."""
    pattern = operator.pattern
    sums = jax.ops.segment_sum(
        jnp.abs(operator.values),
        pattern.rows,
        pattern.shape[0],
        indices_are_sorted=True,
        mode="promise_in_bounds",
    )
    return jnp.max(sums if inverse is None else sums * jnp.abs(inverse))


def _host_eigenvalue(matrix: Any) -> float:
    """The largest eigenvalue in size of a Hermitian matrix of SciPy, to a few percent;
    infinity where it is not found."""
    from scipy.sparse.linalg import ArpackError, eigsh

    n = matrix.shape[0]
    if n < 30:
        return float(np.abs(np.linalg.eigvalsh(matrix.toarray())).max())
    start = np.random.default_rng(0).standard_normal(n).astype(matrix.dtype)
    tol: Any = 0.05
    try:
        found = eigsh(
            matrix, 1, which="LM", v0=start, tol=tol, return_eigenvectors=False
        )
    except ArpackError:
        return np.inf
    return float(np.abs(found).max())


def _turned(state: ChebyshevState, of_operator: Any, of_array: Any) -> ChebyshevState:
    inverse = None if state.inverse is None else of_array(state.inverse)
    operator = of_operator(state.operator)
    return ChebyshevState(operator, inverse, state.coefficients, state.most)
