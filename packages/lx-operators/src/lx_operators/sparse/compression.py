"""A sparse matrix from few products with it, given its pattern."""

import weakref
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Inexact, Int

from .._checks import check_not_to_real
from .._composite import with_fields
from .._operator import AbstractLinearOperator
from .._properties import declared, is_own_adjoint, is_own_transpose
from .._structures import (
    common_dtype,
    is_real,
    ravel,
    size_of,
    structures_of,
    unravel,
)
from ._indices import on_device
from .colouring import Colouring, Kind, colour, seen_alone
from .operator import SparseLinearOperator
from .pattern import SparsityPattern


class ColouredPattern(eqx.Module):
    """A sparsity pattern with a colouring, by which its values are found from few
    products.

    An argument `sparsity=` also accepts a plain pattern, and colours it. Colour it
    beforehand to pass it into a `jit`-compiled function as an argument.

    Args:
        pattern: a `SparsityPattern`, a SciPy sparse matrix, or asdex's pattern.
        kinds: which colourings to consider: "columns" (products, forward mode), "rows"
            (products with the transpose, reverse mode), "symmetric" (products with a
            matrix that is its own transpose or adjoint, each pair of elements found
            once). The one with the fewest colours is used.
        check: whether one more product, with a random vector, looks for entries that
            the pattern lacks each time that it is used. A missing entry is found with
            probability one, and is an error at run time.

    Attributes:
        pattern: the `SparsityPattern`.
        kind: which colouring it is.
        count: the number of colours: the number of products.
        colours: of each column (row), `[n]` (`[m]`).

    Raises:
        ValueError: the pattern is of another type, or traced; or "symmetric" for a
            pattern that is not symmetric.

    ```python
    pattern = lx.jacobian_sparsity(lambda x, args: x[1:] * x[:-1], jnp.ones(4))
    lx.ColouredPattern(pattern).count  # 2
    ```
    """

    pattern: SparsityPattern
    colours: Int[Array, " k"]
    positions: Int[Array, " size"]  # of each entry in the products, one after the other
    mirrored: Bool[Array, " size"] | None  # whether that is its mirror image
    kind: Kind = eqx.field(static=True)
    count: int = eqx.field(static=True)
    check: bool = eqx.field(static=True)

    def __init__(
        self,
        pattern: Any,
        kinds: Sequence[Kind] = ("columns", "rows"),
        check: bool = False,
    ):
        pattern = as_pattern(pattern).without_assembly()
        kinds = tuple(kinds)
        if not kinds or not set(kinds) <= {"columns", "rows", "symmetric"}:
            raise ValueError(
                "`kinds` must be some of 'columns', 'rows' and 'symmetric', but got "
                f"{kinds!r}."
            )
        if "symmetric" in kinds and not pattern.is_symmetric:
            raise ValueError(
                f"`kinds` has 'symmetric', but {pattern!r} is not symmetric; leave it "
                "out."
            )
        found = _coloured(pattern, kinds)
        m, n = pattern.shape
        rows, columns = np.asarray(pattern.rows), np.asarray(pattern.columns)
        length = m if found.kind == "columns" else n
        large = found.count * length >= 2**31
        wide = [x.astype(np.int64) for x in (rows, columns, found.colours)]
        rows, columns, colours = wide
        mirrored = None
        match found.kind:
            case "columns":
                positions = colours[columns] * length + rows
            case "rows":
                positions = colours[rows] * length + columns
            case "symmetric":
                alone = seen_alone(rows, columns, colours, found.count)
                mirrored = ~alone
                positions = np.where(
                    alone,
                    colours[columns] * length + rows,
                    colours[rows] * length + columns,
                )
        with jax.ensure_compile_time_eval():
            self.colours = on_device(found.colours)
            self.positions = on_device(positions.astype("i8" if large else "i4"))
            self.mirrored = None if mirrored is None else on_device(mirrored)
        self.pattern, self.kind, self.count = pattern, found.kind, found.count
        self.check = check

    @property
    def T(self) -> "ColouredPattern":
        """The transposed pattern; its rows have the colours of these columns."""
        kinds: dict[Kind, Kind] = {"columns": "rows", "rows": "columns"}
        fields: dict[str, Any] = {"pattern": self.pattern.T}
        if self.kind in kinds:
            fields["positions"] = self.positions[self.pattern.transposed]
            fields["kind"] = kinds[self.kind]
        return with_fields(self, **fields)

    def __repr__(self) -> str:
        return f"ColouredPattern({self.pattern!r}, {self.count} {self.kind})"


def as_pattern(sparsity: Any) -> SparsityPattern:
    """A pattern with known indices, from any object that describes one.

    Raises:
        ValueError: it describes no pattern, or its indices are traced.
    """
    match sparsity:
        case SparsityPattern():
            pattern = sparsity
        case ColouredPattern() | SparseLinearOperator():
            pattern = sparsity.pattern
        case _ if hasattr(sparsity, "sparsity"):  # asdex's pattern with colours
            return as_pattern(sparsity.sparsity)
        case _ if all(hasattr(sparsity, name) for name in ("rows", "cols", "shape")):
            pattern = SparsityPattern(sparsity.rows, sparsity.cols, sparsity.shape)
        case _ if hasattr(sparsity, "tocoo"):
            pattern = SparsityPattern.from_scipy(sparsity)
        case _:
            raise ValueError(
                "a pattern must be a `SparsityPattern`, a SciPy sparse matrix or one "
                f"of asdex's, but got a value of type `{type(sparsity).__name__}`; a "
                "dense mask becomes one by `SparsityPattern.from_dense(mask)`."
            )
    traced = isinstance(pattern.rows, jax.core.Tracer)
    if traced or not pattern.exact:
        raise ValueError(
            f"{pattern!r} is traced, and cannot be coloured: its entries are not known "
            "yet. Colour it outside of `jit`, by `ColouredPattern(pattern)`, and pass "
            "that."
        )
    return pattern


# Patterns are coloured once, as long as they live: a Newton iteration builds a Jacobian
# of the same pattern in each step.
_found: dict[tuple[int, tuple[Kind, ...]], tuple[weakref.ref, Colouring]] = {}


def _coloured(pattern: SparsityPattern, kinds: tuple[Kind, ...]) -> Colouring:
    key = id(pattern.rows), kinds
    if key in _found and _found[key][0]() is pattern.rows:
        return _found[key][1]
    found = colour(pattern, kinds)
    forget = weakref.ref(pattern.rows, lambda _: _found.pop(key, None))
    _found[key] = forget, found
    return found


def coloured(
    sparsity: Any, operator: AbstractLinearOperator, check: bool = False
) -> ColouredPattern:
    """A pattern, coloured for an operator: by the products that it has.

    Raises:
        ValueError: no pattern, or of another shape than the operator's matrix.
    """
    if isinstance(sparsity, ColouredPattern):
        pattern = sparsity.pattern
    else:
        pattern = as_pattern(sparsity)
    shape = operator.out_size(), operator.in_size()
    if pattern.shape != shape:
        raise ValueError(
            f"`sparsity` has shape {pattern.shape}, but the matrix of the operator has "
            f"shape {shape}."
        )
    check_not_to_real(operator)
    if isinstance(sparsity, ColouredPattern):
        return sparsity
    return ColouredPattern(pattern, _kinds(operator, pattern), check)


def _kinds(
    operator: AbstractLinearOperator, pattern: SparsityPattern
) -> tuple[Kind, ...]:
    ins, outs = structures_of(operator)
    by = getattr(operator, "jac", None)
    kinds: list[Kind] = ["columns", "rows"]
    if by == "bwd":
        kinds = ["rows"]
    if by == "fwd" or is_real(ins) != is_real(outs):
        kinds = ["columns"]
    reflexive = is_own_transpose(operator) or is_own_adjoint(operator)
    if reflexive and pattern.is_symmetric:
        kinds.append("symmetric")
    return tuple(kinds)


def compress(
    operator: AbstractLinearOperator, sparsity: Any = None, *, check: bool = False
) -> SparseLinearOperator:
    """Computes the sparse matrix of an operator from products with it: one for each
    colour of its pattern, all in one compiled evaluation.

    Works under `jit`, `vmap` and derivatives.

    Args:
        operator: an `AbstractLinearOperator`, such as the Jacobian that a differential
            equation solver builds.
        sparsity: where its matrix may be nonzero: a `SparsityPattern`, a
            `ColouredPattern`, a SciPy sparse matrix or asdex's pattern. By default the
            operator's own.
        check: whether one more product looks for entries that the pattern lacks.

    Returns:
        A `SparseLinearOperator` with the structures and tags of `operator`; in the
        common dtype of its leaves.

    Raises:
        ValueError: no pattern, a pattern of another shape, or a traced one.

    ```python
    operator = lx.FunctionLinearOperator(lambda x: x + jnp.roll(x, 1), jnp.ones(4))
    pattern = lx.jacobian_sparsity(lambda x, args: operator.mv(x), jnp.ones(4))
    lx.compress(operator, pattern)  # SparseLinearOperator(f64[4, 4], 8 entries)
    ```
    """
    if isinstance(operator, SparseLinearOperator):
        return operator
    if sparsity is None:
        sparsity = getattr(operator, "sparsity", None)
    if sparsity is None:
        raise ValueError(
            f"`sparsity` must say where the matrix of {operator!r} may be nonzero; "
            "`jacobian_sparsity(fn, x, args)` finds it."
        )
    by = coloured(sparsity, operator, check)
    ins, outs = structures_of(operator)
    out = SparseLinearOperator(
        _values(operator, by),
        by.pattern,
        declared(operator),
        input_structure=ins,
        output_structure=outs,
    )
    if not (check or by.check):
        return out
    return eqx.tree_at(lambda op: op.values, out, _checked(operator, out))


@eqx.filter_jit
def _values(
    operator: AbstractLinearOperator, by: ColouredPattern
) -> Inexact[Array, " size"]:
    seeds = by.colours[None, :] == jnp.arange(by.count, dtype=by.colours.dtype)[:, None]
    if by.kind == "rows":
        operator = operator.transpose()
    structure, out = structures_of(operator)
    dtype = common_dtype(structure)
    seen = jax.vmap(lambda seed: _flat(operator, seed))(seeds.astype(dtype))
    values = (
        seen.reshape(-1)
        .at[by.positions]
        .get(
            mode="promise_in_bounds",
            unique_indices=by.mirrored is None,
            wrap_negative_indices=False,
        )
    )
    if by.mirrored is not None and not is_real(structure, out):
        if not is_own_transpose(operator):  # it is its own adjoint
            values = jnp.where(by.mirrored, jnp.conj(values), values)
    return values


def _flat(operator: AbstractLinearOperator, vector: Array) -> Array:
    """A product with flat vectors."""
    structure, out = structures_of(operator)
    product = operator.mv(unravel(vector, structure))
    return ravel(product, common_dtype(structure, out))


def _checked(
    operator: AbstractLinearOperator, compressed: SparseLinearOperator
) -> Array:
    """The values, or an error if the product with a random vector is another."""
    wrong = lack(operator, compressed)
    bound = jnp.sqrt(jnp.finfo(wrong.dtype).eps)
    return eqx.error_if(
        compressed.values,
        ~(wrong <= bound),
        "the pattern that an operator was compressed by lacks entries: its product "
        "with a random vector is not that of the compressed matrix. "
        "`jacobian_sparsity(fn, x, args)` finds a pattern that holds at all x.",
    )


@eqx.filter_jit
def lack(operator: AbstractLinearOperator, compressed: SparseLinearOperator) -> Array:
    """How far the product with a random vector is from that of the compressed matrix,
    relative to the products. Entries that a pattern lacks make it large with
    probability one: the vectors that do not see them are a null set."""
    structure, out = structures_of(operator)
    dtype = common_dtype(structure)
    key = jax.random.key(size_of(structure))
    vector = jax.random.normal(key, (size_of(structure),), dtype)
    exact, found = (_flat(op, vector) for op in (operator, compressed))
    off = jnp.max(jnp.abs(exact - found), initial=0.0)
    scale = jnp.max(jnp.abs(exact), initial=0.0)
    return jnp.where(off == 0, jnp.zeros_like(off), off / scale)
