"""A multiple of the identity, but for a few directions: s (I + U W Uᴴ)."""

import equinox as eqx
from jaxtyping import Array, PyTree

from ._flat import matmul, on_flat


class LowRank(eqx.Module):
    """s (I + U diag(w) Uᴴ), with U of orthonormal columns."""

    U: Array
    w: Array
    s: Array

    def mv(self, vector: PyTree[Array]) -> PyTree[Array]:
        def fn(r: Array) -> Array:
            along = self.w.astype(r.dtype) * matmul(self.U.conj().T, r)
            return self.s.astype(r.dtype) * (r + matmul(self.U, along))

        return on_flat(fn, vector)

    def conj(self) -> "LowRank":
        """Its conjugate, which is its transpose, as it is Hermitian."""
        return LowRank(self.U.conj(), self.w, self.s)
