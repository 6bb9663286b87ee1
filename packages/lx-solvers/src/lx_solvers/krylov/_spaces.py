"""How a Krylov method sees pytrees: as one array.

The recurrences in `krylov/` are written for single arrays, so that they read like their
papers. A structure of one leaf is that leaf, its shape (and its sharding) untouched; of
several leaves, their concatenation. Where real and complex leaves stand side by side, a
complex leaf counts as two real ones: the map is then linear over the reals only.
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, PyTree
from lx_operators import AbstractLinearOperator
from lx_operators.internal import (
    Frozen,
    adjoint_product,
    cast,
    common_dtype,
    complex_to_real_dtype,
    freeze,
    promote_types,
    strict_promotion,
)

Product = Callable[[Array], Array]


@dataclasses.dataclass(frozen=True)
class Space:
    """The elements of a structure, as arrays of one dtype."""

    structure: Frozen
    dtype: np.dtype
    realified: bool
    flat: bool

    @property
    def size(self) -> int:
        return sum(math.prod(leaf.shape) for leaf in self.structure.leaves)

    @property
    def shape(self) -> tuple[int, ...]:
        if not self.flat:
            return self.structure.leaves[0].shape
        leaves = self.structure.leaves
        twice = [2 if self.realified and _complex(leaf.dtype) else 1 for leaf in leaves]
        return (sum(k * math.prod(leaf.shape) for k, leaf in zip(twice, leaves)),)

    @property
    def real_dtype(self) -> np.dtype:
        return complex_to_real_dtype(self.dtype)

    @property
    def eps(self) -> float:
        """The coarsest rounding among the leaves, and of the arithmetic."""
        dtypes = [self.dtype] + [
            leaf.dtype for leaf in self.structure.leaves if not _half(leaf.dtype)
        ]
        return max(float(jnp.finfo(dtype).eps) for dtype in dtypes)

    def zeros(self) -> Array:
        return jnp.zeros(self.shape, self.dtype)

    def zero(self) -> Array:
        return jnp.zeros((), self.real_dtype)

    def ravel(self, tree: PyTree[Array]) -> Array:
        """An element as an array."""
        leaves = jtu.tree_leaves(tree)
        if not self.flat:
            return cast(leaves[0], self.dtype)
        parts = []
        for leaf, s in zip(leaves, self.structure.leaves):
            if self.realified and _complex(s.dtype):
                parts += [jnp.ravel(jnp.real(leaf)), jnp.ravel(jnp.imag(leaf))]
            else:
                parts.append(jnp.ravel(leaf))
        parts = [cast(part, self.dtype) for part in parts]
        return jnp.concatenate([jnp.zeros(0, self.dtype), *parts])

    def unravel(self, array: Array) -> PyTree[Array]:
        """An array as an operator takes it: in the dtypes of the leaves, but half
        precision in that of the arithmetic."""
        wide = not strict_promotion()
        return self._split(
            array,
            lambda dtype: self.dtype if wide and _half(dtype) else dtype,
        )

    def leaves(self, array: Array) -> list[Array]:
        """The leaves of an array, in the dtype of the arithmetic."""
        return jtu.tree_leaves(self._split(array, lambda dtype: self.dtype))

    def solution(self, array: Array) -> PyTree[Array]:
        """An array as an element of the structure, dtypes included."""
        return self._split(array, lambda dtype: dtype)

    def _split(self, array: Array, dtype_of: Callable) -> PyTree[Array]:
        leaves, treedef = self.structure
        # no imaginary part is dropped, unless it is known to be zero
        promote = not self.realified and _complex(self.dtype)
        out, start = [], 0
        for leaf in leaves:
            dtype = dtype_of(leaf.dtype)
            if promote or (self.realified and _complex(leaf.dtype)):
                dtype = promote_types(dtype, jnp.complex64)
            if not self.flat:
                out.append(cast(array, dtype))
                continue
            size = math.prod(leaf.shape)
            part = jax.lax.slice_in_dim(array, start, start + size)
            start += size
            if self.realified and _complex(leaf.dtype):
                imaginary = jax.lax.slice_in_dim(array, start, start + size)
                start += size
                part = jax.lax.complex(part, imaginary)
            out.append(cast(part.reshape(leaf.shape), dtype))
        return jtu.tree_unflatten(treedef, out)


def _complex(dtype) -> bool:
    return jnp.issubdtype(dtype, jnp.complexfloating)


def _half(dtype) -> bool:
    return jnp.finfo(dtype).bits < 32


def _mixed(structure: Frozen) -> bool:
    return len({_complex(leaf.dtype) for leaf in structure.leaves}) > 1


def spaces(operator: AbstractLinearOperator) -> tuple[Space, Space]:
    """The spaces that an operator maps from and to."""
    inner, outer = freeze(operator.in_structure()), freeze(operator.out_structure())
    realified = _mixed(inner) or _mixed(outer)
    dtype = common_dtype(inner.leaves, outer.leaves)
    dtype = promote_types(dtype, jnp.float32)
    if realified:
        dtype = complex_to_real_dtype(dtype)
    # where the two differ in shape, a square operator's vectors meet as flat ones
    flat = len(inner.leaves) != 1 or [leaf.shape for leaf in inner.leaves] != [
        leaf.shape for leaf in outer.leaves
    ]
    return (
        Space(inner, dtype, realified, flat),
        Space(outer, dtype, realified, flat),
    )


def as_matvec(operator: AbstractLinearOperator, space: Space | None = None) -> Product:
    """The operator as a map between arrays.

    Args:
        space: that of its vectors, where these are not its own: a real preconditioner
            acts between complex vectors, a float32 one between float64 vectors.
    """
    X, Y = (space, space) if space is not None else spaces(operator)
    return lambda x: Y.ravel(operator.mv(X.unravel(x)))


def as_matvecs(operator: AbstractLinearOperator) -> tuple[Product, Product]:
    """The operator and its adjoint, as maps between arrays."""
    (X, Y), AH = spaces(operator), adjoint_product(operator)
    return as_matvec(operator), lambda y: X.ravel(AH(Y.unravel(y)))


def signed(A: Product, sign: int) -> Product:
    """A or -A."""
    return A if sign == 1 else lambda x: -A(x)
