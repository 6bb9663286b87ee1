"""Subspaces in which the system is solved exactly."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from lx_operators import AbstractLinearOperator, conj, is_hermitian

from ._adapted import as_preconditioner
from ._flat import as_matvec, columns, dtype_of, matmul, on_flat
from ._preconditioner import AbstractPreconditioner, definite_tags, tags_of
from .jacobi import Jacobi


class Coarse(eqx.Module):
    """Q = V E⁺ Uᴴ with E = Uᴴ A V, and what Q A and A Q need."""

    V: Array
    U: Array
    AV: Array
    AU: Array
    """Aᴴ U."""
    inverse: Array

    def Q(self, r: Array) -> Array:
        return self._along(self.V, self.U, r)

    def QA(self, r: Array) -> Array:
        return self._along(self.V, self.AU, r)

    def AQ(self, r: Array) -> Array:
        return self._along(self.AV, self.U, r)

    def _along(self, left: Array, right: Array, r: Array) -> Array:
        return matmul(left, matmul(self.inverse, matmul(right.conj().T, r)))

    def transposed(self) -> "Coarse":
        V, U, AV, AU = (x.conj() for x in (self.U, self.V, self.AU, self.AV))
        return Coarse(V, U, AV, AU, self.inverse.T)

    def conjugated(self) -> "Coarse":
        return jax.tree.map(jnp.conj, self)


def coarse(operator: AbstractLinearOperator, W: Array, name: str) -> Coarse:
    """Q of the span of W, on both sides.

    Raises:
        ValueError: W does not fit the operator.
    """
    n = operator.in_size()
    if W.shape[0] != n:
        raise ValueError(
            f"`vectors` of `{name}` must have {n} rows, as many as the operator has "
            f"unknowns, but has shape {W.shape}."
        )
    W = W.astype(dtype_of(operator))
    W, _ = jnp.linalg.qr(W)
    AW = columns(operator, W)
    hermitian = is_hermitian(operator)
    AHW = AW if hermitian else columns(operator.H, W)
    E = matmul(W.conj().T, AW)
    return Coarse(W, W, AW, AHW, jnp.linalg.pinv(E, hermitian=hermitian))


def checked_vectors(vectors: Any, name: str) -> Array:
    vectors = jnp.asarray(vectors)
    if vectors.ndim != 2 or not jnp.issubdtype(vectors.dtype, jnp.inexact):
        raise ValueError(
            f"`vectors` of `{name}` must be a floating array [n, k] of k vectors, but "
            f"got {vectors.dtype} of shape {vectors.shape}."
        )
    return jax.lax.stop_gradient(vectors)


class _State(eqx.Module):
    coarse: Coarse
    inner: AbstractLinearOperator


class Deflation(AbstractPreconditioner[_State]):
    """Exact solution in the span of a few vectors W, and a preconditioner N for the
    rest (Nicolaides 1987, doi:10.1137/0724027; in the balancing form of Mandel 1993,
    doi:10.1002/cnm.1640091104, which is definite if A and N are):

        M = (I - Q A) N (I - A Q) + Q,    Q = W (Wᴴ A W)⁺ Wᴴ

    W spans the directions for which N is a bad preconditioner: approximate eigenvectors
    of small eigenvalues, rigid body modes, or one constant for each subdomain. Null
    vectors of A may be among them. It costs 6 n k operations to apply, and no product
    with A.

    Args:
        vectors: W, of shape `[n, k]`.
        blocks: instead of vectors, the number of the subdomain of each unknown, an
            integer array `[n]`.
        inner: N, a preconditioner or a direct solver; `Jacobi()` by default.

    Raises:
        ValueError: neither or both of `vectors` and `blocks` are given, or one is of
            another form.

    ```python
    n = 64
    chain = lx.TridiagonalLinearOperator(
        2 * jnp.ones(n), -jnp.ones(n - 1), -jnp.ones(n - 1)
    )
    operator = lx.TaggedLinearOperator(chain, lx.positive_semidefinite_tag)
    solver = lx.CG(preconditioner=lx.Deflation(blocks=jnp.arange(n) // 8))
    solution = lx.linear_solve(operator, jnp.ones(n), solver)
    ```
    """

    vectors: Array | None
    blocks: Array | None
    count: int = eqx.field(static=True)
    inner: AbstractPreconditioner

    def __init__(self, vectors: Any = None, *, blocks: Any = None, inner: Any = None):
        if (vectors is None) == (blocks is None):
            raise ValueError(
                "`Deflation` needs either `vectors` or `blocks`, and not both."
            )
        self.vectors = self.blocks = None
        self.count = 0
        if vectors is not None:
            self.vectors = checked_vectors(vectors, "Deflation")
        else:
            numbers = np.asarray(blocks)
            if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
                raise ValueError(
                    "`blocks` of `Deflation` must be an integer array [n], but got "
                    f"{numbers.dtype} of shape {numbers.shape}."
                )
            self.blocks = jnp.asarray(numbers)
            self.count = int(numbers.max(initial=-1)) + 1
        self.inner = as_preconditioner(inner) or Jacobi()

    def setup(self, operator):
        ready = self.inner.setup(operator)
        if ready is self.inner:
            return self
        return eqx.tree_at(lambda x: x.inner, self, ready)

    def init(self, operator, options):
        W: Any = self.vectors
        if self.blocks is not None:
            W = jax.nn.one_hot(self.blocks, self.count, dtype=dtype_of(operator))
        return _State(
            coarse(operator, W, "Deflation"), self.inner.as_operator(operator)
        )

    def apply(self, state, vector):
        c = state.coarse

        def fn(r: Array) -> Array:
            z = as_matvec(state.inner)(r - c.AQ(r))
            return z - c.QA(z) + c.Q(r)

        return on_flat(fn, vector)

    def transpose(self, state, options):
        return _State(state.coarse.transposed(), state.inner.T), options

    def conj(self, state, options):
        return _State(state.coarse.conjugated(), conj(state.inner)), options

    def tags(self, operator):
        return definite_tags(operator) & tags_of(self.inner, operator)

    def is_constant(self):
        return self.inner.is_constant()
