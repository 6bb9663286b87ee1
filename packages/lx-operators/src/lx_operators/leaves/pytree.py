"""A matrix in blocks: one block for each pair of output and input leaf."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, ArrayLike, Inexact, PyTree

from .._checks import check_claims, check_transposable
from .._functions import adjoint_product, conj, diagonal, materialise, with_tags
from .._operator import AbstractLinearOperator
from .._promotion import conform, widened
from .._properties import declared, is_own_adjoint, is_own_transpose
from .._structures import (
    Frozen,
    cast,
    common_dtype,
    describe,
    dtype_of,
    floating,
    freeze,
    freeze_structure,
    is_real,
    promote_types,
    ravel,
    same_shapes,
    shape_of,
    structure_of,
    structures_of,
    unravel,
)
from .._tags import Tags, as_tags, tagged_diagonal, transpose_tags
from .diagonal import DiagonalLinearOperator


class PyTreeLinearOperator(AbstractLinearOperator):
    """A matrix stored in blocks, mapping pytrees to pytrees.

    Args:
        pytree: the blocks, as `jax.jacobian` returns them: the tree of
            `output_structure`, with a tree of the input's structure in place of each
            leaf. The shape of a block is the output leaf's shape followed by the input
            leaf's. Integers become floating.
        output_structure: a pytree of `jax.ShapeDtypeStruct`.
        tags: a tag or an iterable of tags.
        input_structure: a pytree of `jax.ShapeDtypeStruct`; by default that of the
            blocks. If the output has no leaves, there are no blocks, and you must give
            it.

    Raises:
        ValueError: if trees or shapes do not fit together, or a tag needs equal input
            and output structure.

    ```python
    # from [3] to {"u": [2], "v": []}
    blocks = {"u": jnp.ones((2, 3)), "v": jnp.ones((3,))}
    out = jax.eval_shape(lambda: {"u": jnp.zeros(2), "v": jnp.zeros(())})
    operator = lx.PyTreeLinearOperator(blocks, out)
    ```
    """

    pytree: PyTree[Inexact[Array, "..."]]
    output_structure: Frozen = eqx.field(static=True)
    input_structure: Frozen = eqx.field(static=True)
    tags: Tags = eqx.field(static=True)

    def __init__(
        self,
        pytree: PyTree[ArrayLike],
        output_structure: PyTree,
        tags: object = (),
        *,
        input_structure: PyTree | None = None,
    ):
        self.pytree = jtu.tree_map(floating, pytree)
        self.output_structure = freeze_structure(output_structure, "output_structure")
        found = _input_structure(self.pytree, self.output_structure)
        if input_structure is None:
            self.input_structure = freeze(()) if found is None else found
        else:
            self.input_structure = freeze(input_structure)
            _check_input(self.input_structure, found)
        self.tags = as_tags(tags)
        check_claims(self)

    def mv(self, vector):
        vector = conform(vector, self.in_structure(), "the vector")
        given, inputs = structure_of(vector), jtu.tree_leaves(vector)
        out_structure = widened(self.out_structure(), given, self.in_structure())

        def row(leaf: jax.ShapeDtypeStruct, blocks: PyTree) -> Array:
            pairs = zip(jtu.tree_leaves(blocks), inputs)
            return _sum([_contract(block, x, x.ndim) for block, x in pairs], leaf)

        return jtu.tree_map(row, out_structure, self.pytree)

    def as_matrix(self):
        dtype = common_dtype(self.in_structure(), self.out_structure())
        columns = [leaf.size for leaf in self.input_structure.leaves]
        blocks = self.output_structure.treedef.flatten_up_to(self.pytree)
        rows = [
            jnp.concatenate(
                [
                    block.reshape(leaf.size, size).astype(dtype)
                    for block, size in zip(jtu.tree_leaves(row), columns)
                ]
                or [jnp.zeros((leaf.size, 0), dtype)],
                axis=1,
            )
            for leaf, row in zip(self.output_structure.leaves, blocks)
        ]
        return jnp.concatenate(rows or [jnp.zeros((0, self.in_size()), dtype)])

    def transpose(self):
        if is_own_transpose(self):
            return self
        check_transposable(self)
        columns = len(self.input_structure.leaves)
        rows = [
            [
                jnp.moveaxis(block, range(leaf.ndim), range(-leaf.ndim, 0))
                for block in row
            ]
            for leaf, row in zip(self.output_structure.leaves, _rows(self))
        ]
        pytree = jtu.tree_unflatten(
            self.input_structure.treedef,
            [
                jtu.tree_unflatten(
                    self.output_structure.treedef, [row[j] for row in rows]
                )
                for j in range(columns)
            ],
        )
        return PyTreeLinearOperator(
            pytree,
            self.in_structure(),
            transpose_tags(self.tags),
            input_structure=self.out_structure(),
        )

    def in_structure(self):
        return self.input_structure.thaw()

    def out_structure(self):
        return self.output_structure.thaw()

    shape = property(shape_of)
    dtype = property(dtype_of)


def _rows(operator: PyTreeLinearOperator) -> list[list[Array]]:
    rows = operator.output_structure.treedef.flatten_up_to(operator.pytree)
    return [jtu.tree_leaves(row) for row in rows]


def _contract(a: Array, b: Array, axes: int) -> Array:
    """The sum over so many of the last axes of a and the first of b."""
    dtype, precision = promote_types(a.dtype, b.dtype), jax.lax.Precision.HIGHEST
    return jnp.tensordot(a.astype(dtype), b.astype(dtype), axes, precision=precision)


def _sum(parts: list[Array], leaf: jax.ShapeDtypeStruct) -> Array:
    parts = [cast(part, leaf.dtype) for part in parts]
    return sum(parts[1:], parts[0]) if parts else jnp.zeros(leaf.shape, leaf.dtype)


def _input_structure(pytree: PyTree[Array], output_structure: Frozen) -> Frozen | None:
    """The input structure that all rows of blocks agree on; None if there are no
    rows."""
    outs, treedef = output_structure
    try:
        rows = treedef.flatten_up_to(pytree)
    except (ValueError, TypeError) as error:
        raise ValueError(
            "`output_structure` must be a prefix of the tree of `pytree`, but got "
            f"{describe(output_structure.thaw())} and {describe(pytree)}: {error}"
        ) from None
    inputs = [_of_row(out, row) for out, row in zip(outs, rows)]
    if not inputs:
        return None
    first = inputs[0]
    for found in inputs:
        shapes = [leaf.shape for leaf in found.leaves]
        if found.treedef != first.treedef or shapes != [x.shape for x in first.leaves]:
            raise ValueError(
                "every row of blocks of `pytree` must have the same input structure, "
                f"but found {describe(first.thaw())} and {describe(found.thaw())}."
            )
    leaves = tuple(
        jax.ShapeDtypeStruct(column[0].shape, common_dtype(column))
        for column in zip(*(found.leaves for found in inputs))
    )
    return Frozen(leaves, first.treedef)


def _check_input(given: Frozen, found: Frozen | None) -> None:
    """A given input structure must have the tree and shapes of the blocks."""
    if found is not None and not same_shapes(given.thaw(), found.thaw()):
        raise ValueError(
            f"`input_structure` is {describe(given.thaw())}, but the blocks of "
            f"`pytree` take {describe(found.thaw())}; leave it out, or correct the "
            "blocks."
        )


def _of_row(out: jax.ShapeDtypeStruct, row: PyTree[Array]) -> Frozen:
    leaves, treedef = jtu.tree_flatten(row)
    for leaf in leaves:
        if leaf.shape[: out.ndim] != out.shape:
            raise ValueError(
                "each leaf of `pytree` must have the shape of its output leaf followed "
                f"by that of its input leaf, but a leaf of shape {leaf.shape} stands "
                f"under an output leaf of shape {out.shape}."
            )
        if is_real(out) and jnp.iscomplexobj(leaf):
            raise ValueError(
                f"a complex leaf of `pytree` ({describe(leaf)}) stands under a real "
                f"leaf of `output_structure` ({describe(out)}); make that complex."
            )
    ins = (jax.ShapeDtypeStruct(leaf.shape[out.ndim :], leaf.dtype) for leaf in leaves)
    return Frozen(tuple(ins), treedef)


@declared.register
def _(operator: PyTreeLinearOperator):
    return operator.tags


@adjoint_product.register
def _(operator: PyTreeLinearOperator):
    if is_own_adjoint(operator):
        return operator.mv
    check_transposable(operator)
    ins, outs = structures_of(operator)
    rows = _rows(operator)

    def product(vector: PyTree[Array]) -> PyTree[Array]:
        vector = conform(vector, outs, "the vector")
        conjugates = [y.conj() for y in jtu.tree_leaves(vector)]
        leaves, treedef = jtu.tree_flatten(widened(ins, structure_of(vector), outs))

        def column(j: int, leaf: jax.ShapeDtypeStruct) -> Array:
            pairs = zip(conjugates, rows)
            parts = [_contract(y, row[j], y.ndim).conj() for y, row in pairs]
            return _sum(parts, leaf)

        return treedef.unflatten([column(j, leaf) for j, leaf in enumerate(leaves)])

    return product


@materialise.register
def _(operator: PyTreeLinearOperator):
    if not tagged_diagonal(operator.tags):
        return operator
    main = unravel(diagonal(operator), operator.in_structure())
    return with_tags(DiagonalLinearOperator(main), operator.tags)


@diagonal.register
def _(operator: PyTreeLinearOperator):
    ins, outs = operator.input_structure.leaves, operator.output_structure.leaves
    if [leaf.size for leaf in ins] != [leaf.size for leaf in outs]:
        return jnp.diagonal(operator.as_matrix())
    # The diagonal blocks are square, so only they matter.
    rows = operator.output_structure.treedef.flatten_up_to(operator.pytree)
    blocks = [jtu.tree_leaves(row)[i] for i, row in enumerate(rows)]
    parts = [jnp.diagonal(b.reshape(y.size, y.size)) for b, y in zip(blocks, outs)]
    return ravel(parts, common_dtype(operator.in_structure(), outs))


@conj.register
def _(operator: PyTreeLinearOperator):
    if not any(jnp.iscomplexobj(leaf) for leaf in jtu.tree_leaves(operator.pytree)):
        return operator
    pytree = jtu.tree_map(jnp.conj, operator.pytree)
    in_structure, out_structure = structures_of(operator)
    return PyTreeLinearOperator(
        pytree, out_structure, operator.tags, input_structure=in_structure
    )
