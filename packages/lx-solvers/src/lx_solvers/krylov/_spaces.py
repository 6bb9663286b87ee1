"""How a Krylov method sees pytrees: as one array.

The recurrences in `krylov/` are written for single arrays, so that they read like their
papers. A structure of one leaf is that leaf, its shape (and its sharding) untouched; of
several leaves, their concatenation. Where real and complex leaves stand side by side, a
complex leaf counts as two real ones: the map is then linear over the reals only.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

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

from .._sizes import is_known

Product = Callable[[Array], Array]


@dataclasses.dataclass(frozen=True)
class Space:
    """The elements of a structure, as arrays of one dtype."""

    structure: Frozen
    shape: tuple[int, ...]
    dtype: np.dtype
    """The dtype of vectors, and of scalars that are complex if these are."""
    size: int
    """The number of scalars."""
    real_dtype: np.dtype
    """The dtype of norms."""
    eps: float
    """The coarsest rounding among the leaves, and of the arithmetic."""
    taken: tuple[np.dtype, ...]
    """The dtypes of the leaves as an operator takes them."""
    realified: bool
    """Whether a complex leaf counts as two real ones."""
    flat: bool
    """Whether the leaves are raveled and joined."""

    def zeros(self) -> Array:
        """The vector 0."""
        return jnp.zeros(self.shape, self.dtype)

    def zero(self) -> Array:
        """The real scalar 0."""
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

    def vector(self, tree: PyTree[Array]) -> Array:
        """A right-hand side as an array. If it is a constant, XLA would take scales out
        of its inner products, which then overflow; so it is not to see that."""
        return jax.lax.optimization_barrier(self.ravel(tree))

    def unravel(self, array: Array) -> PyTree[Array]:
        """An array as an operator takes it: in the dtypes of the leaves, but half
        precision in that of the arithmetic."""
        return self._split(array, self.taken)

    def leaves(self, array: Array) -> list[Array]:
        """The leaves of an array, in the dtype of the arithmetic."""
        return jtu.tree_leaves(self._split(array))

    def solution(self, array: Array) -> PyTree[Array]:
        """An array as an element of the structure, dtypes included."""
        return self._split(array, [leaf.dtype for leaf in self.structure.leaves])

    def _split(self, array: Array, dtypes: Sequence[Any] | None = None) -> PyTree:
        leaves, treedef = self.structure
        # no imaginary part is dropped, unless it is known to be zero
        promote = not self.realified and _complex(self.dtype)
        out, start = [], 0
        for leaf, dtype in zip(leaves, dtypes or [self.dtype] * len(leaves)):
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


def _space(structure: Frozen, dtype: np.dtype, realified: bool, flat: bool) -> Space:
    """The space of a structure, with all that is known of it."""
    wide = not strict_promotion()
    sizes, taken, roundings = [], [], [float(jnp.finfo(dtype).eps)]
    length = 0
    for leaf in structure.leaves:
        own, size = leaf.dtype, math.prod(leaf.shape)
        half = jnp.finfo(own).bits < 32
        sizes.append(size)
        length += 2 * size if realified and _complex(own) else size
        taken.append(dtype if half and wide else own)
        if not half:
            roundings.append(float(jnp.finfo(own).eps))
    return Space(
        structure,
        shape=(length,) if flat else structure.leaves[0].shape,
        dtype=dtype,
        size=sum(sizes),
        real_dtype=complex_to_real_dtype(dtype),
        eps=max(roundings),
        taken=tuple(taken),
        realified=realified,
        flat=flat,
    )


def _complex(dtype) -> bool:
    return jnp.issubdtype(dtype, jnp.complexfloating)


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
    X, Y = (_space(each, dtype, realified, flat) for each in (inner, outer))
    return X, Y


def as_matvec(
    operator: AbstractLinearOperator,
    space: Space | None = None,
    onto: Space | None = None,
) -> Product:
    """The operator as a map between arrays.

    Args:
        space: that of its vectors, by default its own. A real preconditioner acts
            between complex vectors, a float32 one between float64 vectors.
        onto: that of its products; by default the same, if `space` is given.
    """
    X, Y = (space, onto or space) if space is not None else spaces(operator)
    return lambda x: Y.ravel(operator.mv(X.unravel(x)))


def as_matvecs(operator: AbstractLinearOperator) -> tuple[Product, Product]:
    """The operator and its adjoint, as maps between arrays."""
    (X, Y), AH = spaces(operator), adjoint_product(operator)
    return as_matvec(operator), lambda y: X.ravel(AH(Y.unravel(y)))


def signed(A: Product, sign: int) -> Product:
    """A or -A."""
    return A if sign == 1 else lambda x: -A(x)


def not_tall(X: Space, Y: Space) -> Any:
    """Whether A has no more rows than columns; an array if the sizes are symbolic."""
    if X.size == Y.size or is_known(X.size, Y.size):
        return X.size >= Y.size
    return jnp.asarray(X.size, jnp.int32) >= jnp.asarray(Y.size, jnp.int32)
