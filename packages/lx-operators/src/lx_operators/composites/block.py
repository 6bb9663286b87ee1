"""A grid of operators."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu

from .._blocks import Grid, block_diagonal, block_grid, blocks_mapped, map_grid
from .._checks import check_claims
from .._functions import (
    diagonal,
)
from .._operator import AbstractLinearOperator
from .._printing import ATOM, layout, summary
from .._promotion import check_dtypes, conform, promoted_mv
from .._properties import declared, known
from .._provenance import (
    Reflection,
    reflected,
    reflected_product,
    reflections,
    stronger,
)
from .._simplify import SCALINGS, Scaling
from .._structures import (
    Frozen,
    Structure,
    common_dtype,
    describe,
    freeze,
    same_shapes,
    size_of,
    structures_of,
)
from .._tags import (
    Tags,
    as_tags,
    diagonal_tag,
    hermitian_tag,
    lower_triangular_tag,
    negative_semidefinite_tag,
    nonsingular_tag,
    positive_semidefinite_tag,
    symmetric_tag,
    transpose_tags,
    unit_diagonal_tag,
    upper_triangular_tag,
)
from ._rules import adjoint_by_parts, maps_to_parts
from .block_diagonal import BlockDiagonalLinearOperator
from .promoted import promoted


class BlockLinearOperator(AbstractLinearOperator):
    """A matrix of operators, from tuples (an element for each column) to tuples (an
    element for each row).

    Args:
        blocks: rows of operators, of equal lengths; `None` is zero. The elements of
            vectors have the structures of the blocks, which may be any pytrees. If
            dtypes differ, all are promoted to a common one.
        tags: a tag or an iterable of tags.

    Symmetry is recognised: `[[A, B.T], [B, None]]` is symmetric if A is.

    Raises:
        ValueError: if rows differ in length; if a block is not an operator or does not
            fit its row or column; or if a row or column has only zeros, so that its
            structure is unknown. The error names the block's position.

    ```python
    A = lx.MatrixLinearOperator(jnp.eye(3), lx.positive_semidefinite_tag)
    B = lx.MatrixLinearOperator(jnp.ones((1, 3)))
    saddle = lx.BlockLinearOperator([[A, B.T], [B, None]])
    saddle.mv((jnp.ones(3), jnp.ones(1)))  # ([2., 2., 2.], [3.])
    ```
    """

    # the blocks; if they mirror each other, without those above the diagonal
    held: Grid
    input_structure: Frozen = eqx.field(static=True)
    output_structure: Frozen = eqx.field(static=True)
    tags: Tags = eqx.field(static=True)
    # the reflection that turns blocks below the diagonal into those above it
    mirror: Reflection | None = eqx.field(static=True)

    def __init__(
        self,
        blocks: Sequence[Sequence[AbstractLinearOperator | None]],
        tags: object = (),
    ):
        grid = tuple(tuple(row) for row in blocks)
        _check_grid(grid)
        mirror = _mirror(grid)
        ins, outs, same = _structures(grid)
        if not same:
            dtype = common_dtype([structures_of(block) for _, block in present(grid)])
            grid = map_grid(lambda block: promoted(block, dtype), grid)
            ins, outs, _ = _structures(grid)
        self.mirror, self.held = mirror, grid if mirror is None else _lower(grid)
        self.input_structure, self.output_structure = freeze(ins), freeze(outs)
        self.tags = as_tags(tags)
        check_claims(self)

    @property
    def blocks(self) -> Grid:
        """The rows of blocks."""
        star = functools.partial(reflected, reflection=self.mirror)
        return _each(self, lambda block: block, star)

    def mv(self, vector):
        vector = conform(vector, self.in_structure(), "the vector")
        products = _each(
            self,
            lambda block: functools.partial(promoted_mv, block),
            lambda block: functools.partial(reflected_product, block, self.mirror),
        )
        return tuple(
            _sum([times(x) for times, x in zip(row, vector) if times is not None])
            for row in products
        )

    def as_matrix(self):
        ins, outs = map(_elements, structures_of(self))
        dtype = common_dtype(ins, outs)
        rows = [
            jnp.concatenate(
                [
                    jnp.zeros((size_of(y), size_of(x)), dtype)
                    if block is None
                    else block.as_matrix().astype(dtype)
                    for x, block in zip(ins, row)
                ],
                axis=1,
            )
            for y, row in zip(outs, self.blocks)
        ]
        return jnp.concatenate(rows)

    def transpose(self):
        return _reflected(lambda block: block.T, self)

    def in_structure(self):
        return self.input_structure.thaw()

    def out_structure(self):
        return self.output_structure.thaw()


def _reflected(
    fn: Callable[[Any], Any], operator: BlockLinearOperator
) -> BlockLinearOperator:
    grid = map_grid(fn, tuple(zip(*operator.blocks)))
    return BlockLinearOperator(grid, transpose_tags(operator.tags))


def _each(
    operator: BlockLinearOperator, of: Callable[[Any], Any], star: Callable[[Any], Any]
) -> tuple[tuple[Any, ...], ...]:
    """The grid of `of(block)`, with `star(block)` for each block that mirrors one below
    the diagonal."""
    held = operator.held

    def at(i: int, j: int) -> Any:
        mirrored = operator.mirror is not None and i < j
        block = held[j][i] if mirrored else held[i][j]
        return None if block is None else (star if mirrored else of)(block)

    return tuple(tuple(at(i, j) for j in range(len(held[0]))) for i in range(len(held)))


def _lower(grid: Grid) -> Grid:
    """The grid without the blocks above its diagonal."""
    rows = enumerate(grid)
    return tuple((*row[: i + 1], *(None for _ in row[i + 1 :])) for i, row in rows)


def _elements(structure: Structure) -> tuple[Structure, ...]:
    return tuple(structure)


def present(grid: Grid) -> Iterator[tuple[tuple[int, int], AbstractLinearOperator]]:
    """The blocks that are not zero, with their positions."""
    for i, row in enumerate(grid):
        for j, block in enumerate(row):
            if block is not None:
                yield (i, j), block


def _sum(parts: list[Any]) -> Any:
    total = parts[0]
    for part in parts[1:]:
        total = jtu.tree_map(_plus, total, part)
    return total


def _plus(x: Any, y: Any) -> Any:
    dtype = common_dtype([x, y])
    return x.astype(dtype) + y.astype(dtype)


def _check_grid(grid: Grid) -> None:
    lengths = [len(row) for row in grid]
    if not lengths or not lengths[0] or len(set(lengths)) != 1:
        raise ValueError(
            "`blocks` must be rows of the same number of blocks, at least one, but its "
            f"rows have {lengths}; use `None` where a block is zero."
        )
    for (i, j), block in present(grid):
        if not isinstance(block, AbstractLinearOperator):
            raise ValueError(
                f"`blocks[{i}][{j}]` must be a linear operator or None, but is a value "
                f"of type `{type(block).__name__}`; wrap arrays as "
                "`MatrixLinearOperator(array)`."
            )
    places = [place for place, _ in present(grid)]
    for k, (axis, count) in enumerate((("row", len(grid)), ("column", lengths[0]))):
        for i in range(count):
            if all(place[k] != i for place in places):
                raise ValueError(
                    f"{axis} {i} of `blocks` has only None, so its structure is not "
                    "known; put a `ZeroLinearOperator` into it."
                )


def _structures(grid: Grid) -> tuple[tuple, tuple, bool]:
    """The structures of the columns and rows, and whether all blocks agree on them."""
    ins: dict[int, tuple] = {}
    outs: dict[int, tuple] = {}
    same = True
    for (i, j), block in present(grid):
        in_structure, out_structure = structures_of(block)
        for found, key, structure, what in (
            (ins, j, in_structure, f"column {j} takes"),
            (outs, i, out_structure, f"row {i} gives"),
        ):
            (first, place) = found.setdefault(key, (structure, (i, j)))
            if not same_shapes(first, structure):
                raise ValueError(
                    f"`blocks[{i}][{j}]` does not fit `blocks[{place[0]}][{place[1]}]`:"
                    f" {what} {describe(first)} there, but {describe(structure)} here."
                )
            if first != structure:
                check_dtypes(structure, first, f"`blocks[{i}][{j}]`")
                same = False
    columns = tuple(ins[j][0] for j in range(len(grid[0])))
    return columns, tuple(outs[i][0] for i in range(len(grid))), same


def _mirror(grid: Grid) -> Reflection | None:
    """The reflection that turns the grid into itself, not counting its diagonal."""
    both = frozenset((Reflection.TRANSPOSE, Reflection.ADJOINT))
    if len(grid) != len(grid[0]) or not any(sides(grid)):
        return None
    for i in range(len(grid)):
        for j in range(i):
            a, b = grid[i][j], grid[j][i]
            if a is None or b is None:
                both = both if a is b else frozenset()
            else:
                both &= reflections(a, b)
    return stronger(both)


def _mapped(
    fn: Callable[[Any], Any], operator: BlockLinearOperator, tags: Tags
) -> BlockLinearOperator:
    """The same grid with `fn` applied to each block. `fn` must commute with
    reflections, so that the blocks still mirror each other."""
    grid = _each(operator, fn, lambda block: reflected(fn(block), operator.mirror))
    return BlockLinearOperator(grid, tags)


def square_diagonal(operator: BlockLinearOperator) -> bool:
    """Whether the blocks on the diagonal are square."""
    ins, outs = map(_elements, structures_of(operator))
    return list(map(size_of, ins)) == list(map(size_of, outs))


def sides(grid: Grid) -> tuple[bool, bool]:
    """Whether there are blocks below and above the diagonal."""
    places = [place for place, _ in present(grid)]
    return any(i > j for i, j in places), any(i < j for i, j in places)


@declared.register
def _(operator: BlockLinearOperator):
    grid, tags = operator.blocks, set(operator.tags)
    if not square_diagonal(operator):
        return operator.tags
    blocks = [grid[i][i] for i in range(len(grid))]
    there = [known(block) for block in blocks if block is not None]
    every = frozenset.intersection(*there) if there else None

    def of_all(tag: Any) -> bool:
        return every is None or tag in every

    full = all(block is not None for block in blocks)
    below, above = sides(grid)
    if operator.input_structure == operator.output_structure:
        alone = not below and not above
        for reflection, tag in (
            (Reflection.TRANSPOSE, symmetric_tag),
            (Reflection.ADJOINT, hermitian_tag),
        ):
            if (alone or operator.mirror is reflection) and of_all(tag):
                tags.add(tag)
    if not above and of_all(lower_triangular_tag):
        tags.add(lower_triangular_tag)
    if not below and of_all(upper_triangular_tag):
        tags.add(upper_triangular_tag)
    if full and of_all(unit_diagonal_tag):
        tags.add(unit_diagonal_tag)
    if full and not (below and above) and of_all(nonsingular_tag):
        tags.add(nonsingular_tag)
    if not below and not above and every is not None:
        signs = {positive_semidefinite_tag, negative_semidefinite_tag, diagonal_tag}
        tags |= every & signs
    return frozenset(tags)


maps_to_parts(BlockLinearOperator, lambda fn, op: _mapped(fn, op, op.tags))
adjoint_by_parts(BlockLinearOperator, _reflected)


@diagonal.register
def _(operator: BlockLinearOperator):
    if not square_diagonal(operator):
        return jnp.diagonal(operator.as_matrix())
    ins = _elements(operator.in_structure())
    dtype = common_dtype(structures_of(operator))
    parts = [
        jnp.zeros(size_of(x), dtype) if row[i] is None else diagonal(row[i])
        for i, (x, row) in enumerate(zip(ins, operator.blocks))
    ]
    return jnp.concatenate([part.astype(dtype) for part in parts])


def _scaled(a: BlockLinearOperator, s: Any) -> BlockLinearOperator:
    if a.mirror is Reflection.ADJOINT and s.complex():
        return BlockLinearOperator(map_grid(s, a.blocks))
    return _mapped(s, a, frozenset())


SCALINGS.append(Scaling("s [Aᵢⱼ] = [sAᵢⱼ]", BlockLinearOperator, _scaled))


@blocks_mapped.register
def _(operator: BlockLinearOperator, fn: Callable[[Any], Any]):
    return BlockLinearOperator(map_grid(fn, operator.blocks))


@block_grid.register
def _(operator: BlockLinearOperator):
    return operator


@block_diagonal.register
def _(operator: BlockLinearOperator):
    grid = operator.blocks
    if len(grid) != len(grid[0]) or any(sides(grid)):
        return None
    return BlockDiagonalLinearOperator(tuple(row[i] for i, row in enumerate(grid)))


@layout.register
def _(operator: BlockLinearOperator):
    rows = (
        ", ".join("None" if block is None else summary(block) for block in row)
        for row in operator.blocks
    )
    names = sorted(getattr(tag, "name", repr(tag)) for tag in operator.tags)
    inside = ", ".join([f"[[{'], ['.join(rows)}]]", *names])
    return f"BlockLinearOperator({inside})", ATOM
