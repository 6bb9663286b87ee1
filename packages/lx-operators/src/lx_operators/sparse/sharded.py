"""The operator of a sparse matrix whose rows are divided among devices."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Inexact

from .._checks import check_claims, check_square
from .._composite import with_fields
from .._functions import conj, diagonal, materialise
from .._operator import AbstractLinearOperator
from .._printing import ATOM, layout
from .._promotion import conform
from .._properties import declared, is_own_transpose
from .._simplify import unwrapped
from .._structures import dtype_of, floating, shape_of, short_dtype
from .._tags import Tags, as_tags, transpose_tags
from .._varying import manual_axes
from .entries import SparseLinearOperator
from .product import product, transposed_product
from .sharded_pattern import ShardedSparsityPattern


class ShardedSparseLinearOperator(AbstractLinearOperator):
    """A sparse matrix whose rows are divided among the devices of a mesh axis.

    It maps arrays `[p q]`, sharded in p equal blocks, in the order of its pattern, and
    serves all iterative solvers under `jit`. A product exchanges the elements of x that
    other devices' rows need, and no more: `bytes_received` says how many. The transpose
    sends contributions the same way back.

    Padding continues a square matrix by the identity, and any other by zeros. So
    solutions of padded right-hand sides are padded by zeros.

    Args:
        values: the entries, device by device, `[p, k]`, as `pattern.assemble` makes
            them; the only differentiable part. Padding is not read.
        pattern: a `ShardedSparsityPattern`.
        tags: a tag or an iterable of tags.

    Raises:
        ValueError: values of another shape, or a tag that needs a square matrix.

    Under `jit` over several processes, pass the operator as an argument: arrays that
    lie on other processes' devices cannot be constants of a program.

    ```python
    auto = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((jax.device_count(),), ("rows",), axis_types=auto)
    pattern = lx.SparsityPattern.from_stencil([(0,), (-1,), (1,)], (8,))
    values = jnp.concatenate([2 * jnp.ones(8), -jnp.ones(14)])
    matrix = lx.SparseLinearOperator(pattern.assemble(values), pattern)
    sharded = lx.ShardedSparseLinearOperator.from_operator(
        matrix, mesh, tags=lx.positive_semidefinite_tag
    )
    x = sharded.pattern.distribute(jnp.ones(8))
    sharded.pattern.collect(sharded.mv(x))  # 1, 0, 0, 0, 0, 0, 0, 1
    ```
    """

    values: Inexact[Array, "p k"]
    pattern: ShardedSparsityPattern
    tags: Tags = eqx.field(static=True)
    transposed: bool = eqx.field(static=True)

    def __init__(
        self, values: ArrayLike, pattern: ShardedSparsityPattern, tags: object = ()
    ):
        if not isinstance(pattern, ShardedSparsityPattern):
            raise ValueError(
                "`pattern` must be a `ShardedSparsityPattern`, but got a value of type "
                f"`{type(pattern).__name__}`; a `SparseLinearOperator` is divided by "
                "`ShardedSparseLinearOperator.from_operator(operator, mesh)`."
            )
        self.values = floating(values)
        if self.values.shape != pattern.entries.shape:
            raise ValueError(
                f"`values` must have shape {pattern.entries.shape}, but has shape "
                f"{self.values.shape}; `pattern.assemble(values)` makes it from one "
                "number for each entry."
            )
        self.pattern, self.tags, self.transposed = pattern, as_tags(tags), False
        check_claims(self)

    @classmethod
    def from_operator(
        cls,
        operator: SparseLinearOperator,
        mesh: Any,
        axis: str | None = None,
        *,
        order: Any = "given",
        column_order: Any = None,
        overlap: int = 0,
        tags: object = None,
    ) -> "ShardedSparseLinearOperator":
        """A sparse operator, divided among devices.

        Args:
            operator: a `SparseLinearOperator`.
            mesh, axis, order, column_order, overlap: as for `ShardedSparsityPattern`.
            tags: by default those of the operator.

        Returns:
            A `ShardedSparseLinearOperator`.
        """
        A: Any = unwrapped(operator)
        if not isinstance(A, SparseLinearOperator):
            raise ValueError(
                "`operator` must be a `SparseLinearOperator`, but got a value of type "
                f"`{type(operator).__name__}`. A SciPy matrix becomes one by "
                "`SparseLinearOperator.from_scipy(matrix)`."
            )
        pattern = ShardedSparsityPattern(
            A.pattern,
            mesh,
            axis,
            order=order,
            column_order=column_order,
            overlap=overlap,
        )
        tags = declared(operator) if tags is None else tags
        return cls(pattern.assemble(A.values), pattern, tags)

    @property
    def bytes_received(self) -> int:
        """The bytes that each device receives in a product, padding included; as many
        are sent. A product with the transpose exchanges as many."""
        return self.pattern.received * self.values.dtype.itemsize

    def mv(self, vector):
        pattern, structure = self.pattern, self.in_structure()
        if pattern.axis in manual_axes():
            raise ValueError(
                f"inside `shard_map` over the axis {pattern.axis!r} vectors are blocks "
                "of one device: use `operator.local_mv(block)` there. Solvers are "
                "called outside of `shard_map`, under `jit`."
            )
        size, q = pattern.shape[1 - self.transposed], structure.shape[0]
        if size != q and getattr(vector, "shape", None) == (size,):
            raise ValueError(
                f"the vector must have shape ({q},), as the rows are padded, but has "
                f"shape ({size},); `pattern.distribute(vector)` makes it of one in the "
                "user's order."
            )
        x = conform(vector, structure, "the vector")
        if 0 in self.shape:  # XLA compiles no `shard_map` of nothing
            return jnp.zeros_like(x, shape=self.out_structure().shape)
        return _product(self, x)

    def local_mv(self, block: Inexact[Array, " q"]) -> Inexact[Array, " q"]:
        """One device's block of the product, from its block of the vector: inside a
        `shard_map` over the pattern's axis, to which the operator is passed with
        `PartitionSpec(axis)`.

        Args:
            block: an array of one device's elements.
        """
        return _local_product(self.pattern.own(), self.values, block, self.transposed)

    def as_matrix(self):
        eye = jnp.eye(self.in_size(), dtype=self.values.dtype)
        return jax.vmap(self.mv, out_axes=1)(eye)

    def transpose(self):
        if is_own_transpose(self):
            return self
        tags, transposed = transpose_tags(self.tags), not self.transposed
        return with_fields(self, tags=tags, transposed=transposed)

    def in_structure(self):
        return self._structure(1 - self.transposed)

    def out_structure(self):
        return self._structure(int(self.transposed))

    def _structure(self, side: int) -> jax.ShapeDtypeStruct:
        pattern = self.pattern
        size = pattern.mesh.shape[pattern.axis] * pattern.blocks[side]
        return jax.ShapeDtypeStruct((size,), self.values.dtype)

    shape = property(shape_of)
    dtype = property(dtype_of)


@jax.jit
def _product(operator: ShardedSparseLinearOperator, x: Array) -> Array:
    def local(pattern: Any, values: Array, x: Array) -> Array:
        return _local_product(pattern, values, x, operator.transposed)

    return operator.pattern.on_devices(local, operator.values, x)


def _local_product(
    pattern: ShardedSparsityPattern, values: Array, x: Array, transposed: bool
) -> Array:
    """One device's rows of A x, or of Aᵀ x."""
    values, (m, n) = pattern.own_values(values[0]).astype(x.dtype), pattern.shape
    if transposed:
        y = transposed_product(values, x, pattern.local)
        q = pattern.blocks[1]
        y = y[:q] + pattern.halo.accumulate(y[q:])
    else:
        received = pattern.halo.exchange(x)
        y = product(values, jnp.concatenate([x, received]), pattern.local)
    p = pattern.mesh.shape[pattern.axis]
    if m != n or p * pattern.blocks[0] == m:
        return y
    return jnp.where(pattern.own_rows(), y, x)


@declared.register
def _(operator: ShardedSparseLinearOperator):
    return frozenset(operator.tags)


@materialise.register
def _(operator: ShardedSparseLinearOperator):
    return operator


@conj.register
def _(operator: ShardedSparseLinearOperator):
    if not jnp.iscomplexobj(operator.values):
        return operator
    return with_fields(operator, values=operator.values.conj())


@diagonal.register
def _(operator: ShardedSparseLinearOperator):
    check_square(operator)
    return _diagonal(operator)


@jax.jit
def _diagonal(operator: ShardedSparseLinearOperator) -> Array:
    def local(pattern: Any, values: Array) -> Array:
        rows, (q, _) = pattern.local.rows, pattern.blocks
        values = pattern.own_values(values[0])
        on = rows == pattern.local.columns
        values = jnp.where(on, values, jnp.zeros_like(values))
        d = jax.ops.segment_sum(values, rows, q, indices_are_sorted=True)
        return jnp.where(pattern.own_rows(), d, jnp.ones_like(d))

    return operator.pattern.on_devices(local, operator.values)


@layout.register
def _(operator: ShardedSparseLinearOperator):
    pattern = operator.pattern
    m, n = operator.shape
    words = [
        f"{short_dtype(operator.values.dtype)}[{m}, {n}]",
        f"{pattern.size} entries",
        f"{pattern.mesh.shape[pattern.axis]} devices",
        f"{operator.bytes_received} bytes received by each",
    ]
    words += sorted(getattr(tag, "name", repr(tag)) for tag in operator.tags)
    return f"ShardedSparseLinearOperator({', '.join(words)})", ATOM
