"""A polynomial of the operator."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike
from lx_operators import (
    AbstractLinearOperator,
    conj,
    diagonal,
    is_negative_semidefinite,
    is_positive_semidefinite,
    linearise,
)

from .._control_flow import scan
from ._flat import as_matvec, dtype_of, on_flat
from ._lanczos import largest_eigenvalue
from ._preconditioner import AbstractPreconditioner, definite_tags


class _State(eqx.Module):
    operator: AbstractLinearOperator
    inverse: Array | None
    """1 / D, if A is scaled by its diagonal."""
    least: Array
    most: Array


class Chebyshev(AbstractPreconditioner[_State]):
    """Some steps of Chebyshev's iteration, for semidefinite operators: a polynomial of
    A that is near A⁻¹ on an interval. It has no inner products, so that on many devices
    it needs no communication but that of the operator.

    Saad 2003, alg. 12.1, doi:10.1137/1.9780898718003; as a smoother of multigrid
    methods Adams et al. 2003, doi:10.1016/S0021-9991(03)00194-3. Each application costs
    `degree - 1` products. It is definite whatever lies below the interval.

    Args:
        degree: of 1 - λ p(λ).
        bounds: the interval (a, b); b must not be less than the largest eigenvalue (of
            D⁻¹A, if scaled). By default b is found by some steps of Lanczos' process,
            and a = b / `ratio`.
        ratio: see there. About the square of the degree is right for an operator whose
            condition number is large; 4 to 30 in a smoother.
        scaled: whether A is scaled by its diagonal D, which `lx.diagonal` has to find.
        steps: of Lanczos' process.

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
        operator = linearise(operator)
        inverse = 1 / diagonal(operator) if self.scaled else None
        dtype = dtype_of(operator)
        real = jnp.finfo(dtype).dtype
        sign = jnp.asarray(1 if positive or self.scaled else -1, dtype)
        if self.bounds is not None:
            least, most = (jnp.asarray(bound, real) for bound in self.bounds)
            return _State(operator, inverse, least, most)
        A, n = as_matvec(operator), operator.in_size()
        if inverse is None:
            B = lambda v: sign * A(v)  # noqa: E731
        else:  # D⁻½ A D⁻½, with the sign taken off
            root = jnp.sqrt(jnp.abs(inverse)).astype(dtype)
            flip = jnp.sign(inverse.real).astype(dtype)
            B = lambda v: flip * root * A(root * v)  # noqa: E731
        most = largest_eigenvalue(B, n, dtype, max(min(self.steps, n), 1))
        most = most.astype(real) * sign.real.astype(real)
        return _State(operator, inverse, most / jnp.asarray(self.ratio, real), most)

    def apply(self, state, vector):
        A, D = as_matvec(state.operator), state.inverse

        def fn(r: Array) -> Array:
            dtype = r.dtype
            θ, δ = (state.most + state.least) / 2, (state.most - state.least) / 2
            σ = θ / δ

            def scaled(r: Array) -> Array:
                return r if D is None else D.astype(dtype) * r

            d = scaled(r) / θ.astype(dtype)
            if self.degree == 1:
                return d

            def step(carry: Any, _: Any) -> Any:
                x, r, d, ρ = carry
                r = r - A(d).astype(dtype)
                next_ρ = 1 / (2 * σ - ρ)
                d = (next_ρ * ρ).astype(dtype) * d
                d = d + (2 * next_ρ / δ).astype(dtype) * scaled(r)
                return (x + d, r, d, next_ρ), None

            start = d, r, d, 1 / σ
            inputs = state, r
            (x, *_), _ = scan(step, start, jnp.arange(self.degree - 1), inputs=inputs)
            return x

        return on_flat(fn, vector)

    def transpose(self, state, options):
        return _turned(state, lambda A: A.T, lambda d: d), options

    def conj(self, state, options):
        return _turned(state, conj, jnp.conj), options

    def tags(self, operator):
        return definite_tags(operator)


def _turned(state: _State, of_operator: Any, of_array: Any) -> _State:
    inverse = None if state.inverse is None else of_array(state.inverse)
    return _State(of_operator(state.operator), inverse, state.least, state.most)
