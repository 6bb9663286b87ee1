"""LU factors of blocks, and products with them from both sides."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact, Int

from ._factors import HIGHEST, inverse_permutation


class BlockLU(eqx.Module):
    """The factors of a block."""

    lu: Inexact[Array, "*n b b"]
    permutation: Int[Array, "*n b"]
    odd: Int[Array, "*n"]  # how many rows were swapped


def factorised(D: Inexact[Array, "*n b b"]) -> BlockLU:
    lu, pivots, permutation = jax.lax.linalg.lu(D)
    swapped = pivots != jax.lax.broadcasted_iota(
        pivots.dtype, pivots.shape, pivots.ndim - 1
    )
    return BlockLU(lu, permutation, jnp.sum(swapped, axis=-1, dtype=jnp.int32))


def solve_left(D: BlockLU, B: Inexact[Array, "b k"]) -> Inexact[Array, "b k"]:
    """D⁻¹ B."""
    y = _triangular(D.lu, B[D.permutation], lower=True, unit_diagonal=True)
    return _triangular(D.lu, y, lower=False)


def solve_left_adjoint(D: BlockLU, B: Inexact[Array, "b k"]) -> Inexact[Array, "b k"]:
    """D⁻ᴴ B."""
    adjoint = {"transpose_a": True, "conjugate_a": True}
    y = _triangular(D.lu, B, lower=False, **adjoint)
    z = _triangular(D.lu, y, lower=True, unit_diagonal=True, **adjoint)
    return z[inverse_permutation(D.permutation)]


def solve_right(D: BlockLU, B: Inexact[Array, "k b"]) -> Inexact[Array, "k b"]:
    """B D⁻¹."""
    return solve_left_adjoint(D, B.conj().T).conj().T


def _triangular(T: Array, B: Array, **how: bool) -> Array:
    return jax.lax.linalg.triangular_solve(T, B, left_side=True, **how)


def matmul(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=HIGHEST)


def each_times(blocks: Inexact[Array, "n b b"], x: Inexact[Array, "n b"]) -> Array:
    return jnp.einsum("nij,nj->ni", blocks, x, precision=HIGHEST)


def on_each(
    D: BlockLU, x: Inexact[Array, "n b"], adjoint: bool
) -> Inexact[Array, "n b"]:
    solve = solve_left_adjoint if adjoint else solve_left
    return jax.vmap(solve)(D, x[:, :, None])[:, :, 0]


def adjoint_of(blocks: Inexact[Array, "... b b"]) -> Inexact[Array, "... b b"]:
    return jnp.swapaxes(blocks, -1, -2).conj()
