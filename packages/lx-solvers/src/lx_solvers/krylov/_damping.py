"""Least squares with damping λ: those of the operator [A; λ] and the right-hand side
[b; 0]."""

import math

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike

from .._scaling import real_dot
from ._scalars import where
from ._spaces import Product


def undamped(damp: ArrayLike) -> bool:
    """Whether the damping is known to be zero."""
    return isinstance(damp, int | float) and damp == 0


def check_damping(damp: ArrayLike, conlim: ArrayLike, solver: str) -> None:
    """Damping and limit of the condition number are not negative."""
    for name, value in (("damp", damp), ("conlim", conlim)):
        if isinstance(value, int | float) and not value >= 0:
            raise ValueError(
                f"`{name}` of `{solver}` must not be negative, but got {value}."
            )


def augmented(
    A: Product, AH: Product, b: Array, λ: Array, shape: tuple[int, ...]
) -> tuple[Product, Product, Array, Product]:
    """[A; λ], its adjoint, [b; 0], and what takes the first part of such a vector."""
    m = b.size

    def both(x: Array) -> Array:
        return jnp.concatenate([A(x).reshape(m), (λ.astype(x.dtype) * x).reshape(-1)])

    def first(r: Array) -> Array:
        return r[:m].reshape(b.shape)

    def adjoint(r: Array) -> Array:
        return AH(first(r)) + λ.astype(r.dtype) * r[m:].reshape(shape)

    zeros = jnp.zeros(math.prod(shape), b.dtype)
    return both, adjoint, jnp.concatenate([b.reshape(m), zeros]), first


def better_than_none(x: Array, Ax: Array, b: Array, check: Array) -> tuple:
    """In a checking pass, x and [A; λ] x; or zeros, if these leave less of [b; 0].

    If λ is large, a bad initial guess that is taken back leaves its own rounding errors
    in x, and these may be all that remains of x. One that passes is, by this test, at
    most twice as long as λ⁻² Aᴴ b, the solution for large λ.
    """
    worse = check & (real_dot(Ax, 2 * b - Ax) <= 0)
    return where(worse, 0, x), where(worse, 0, Ax)
