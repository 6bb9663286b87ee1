"""The operator of a sparse matrix."""

from typing import Any

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Inexact, PyTree

from .._bands import WIDEST
from .._checks import check_claims, check_square
from .._functions import (
    adjoint_product,
    bands,
    bandwidths,
    conj,
    diagonal,
    materialise,
    tridiagonal,
)
from .._operator import AbstractLinearOperator
from .._printing import ATOM, layout
from .._promotion import conform
from .._properties import declared, is_own_transpose
from .._structures import (
    Frozen,
    Structure,
    describe,
    dtype_of,
    floating,
    freeze_structure,
    ravel,
    shape_of,
    short_dtype,
    size_of,
    unravel,
)
from .._tags import (
    Tags,
    as_tags,
    diagonal_tag,
    lower_triangular_tag,
    transpose_tags,
    tridiagonal_tag,
    upper_triangular_tag,
)
from .pattern import SparsityPattern, check_pointers, check_range, scipy_entries
from .product import product, transposed_product, transposed_values

_new = object.__new__


class SparseLinearOperator(AbstractLinearOperator):
    """A sparse matrix, of which only the entries are stored.

    Its values are the only differentiable part: the derivative of a product, or of a
    solve, has one number for each entry, and no matrix `[m, n]` is formed.

    Args:
        values: the entries, `[size]`, in the order of the pattern: by row, then by
            column. Integers become floating.
        pattern: where the entries are, a `SparsityPattern`.
        tags: a tag or an iterable of tags. What the pattern says by itself (diagonal,
            triangular, tridiagonal) needs no tag.
        input_structure, output_structure: pytrees of `jax.ShapeDtypeStruct` (or of
            arrays), if vectors are no arrays `[n]` and `[m]`; their dtypes are those of
            `values`.

    Raises:
        ValueError: not as many values as the pattern has entries, a structure of
            another size, or a tag that needs a square matrix.

    ```python
    # [[4, 1, 0], [1, 4, 1], [0, 1, 4]]
    pattern = lx.SparsityPattern.from_coo(
        [0, 0, 1, 1, 1, 2, 2], [0, 1, 0, 1, 2, 1, 2], (3, 3)
    )
    values = jnp.array([4.0, 1, 1, 4, 1, 1, 4])
    operator = lx.SparseLinearOperator(values, pattern, lx.positive_semidefinite_tag)
    operator.mv(jnp.ones(3))  # [5., 6., 5.]
    ```
    """

    values: Inexact[Array, " size"]
    pattern: SparsityPattern
    tags: Tags = eqx.field(static=True)
    structures: tuple[Frozen | None, Frozen | None] = eqx.field(static=True)

    def __init__(
        self,
        values: ArrayLike,
        pattern: SparsityPattern,
        tags: object = (),
        *,
        input_structure: PyTree | None = None,
        output_structure: PyTree | None = None,
    ):
        if not isinstance(pattern, SparsityPattern):
            raise ValueError(
                "`pattern` must be a `SparsityPattern`, but got a value of type "
                f"`{type(pattern).__name__}`; a SciPy matrix becomes an operator by "
                "`SparseLinearOperator.from_scipy(matrix)`."
            )
        self.values = floating(values)
        if self.values.shape != (pattern.size,):
            raise ValueError(
                "`values` must be a one-dimensional array with a number for each of "
                f"the {pattern.size} entries of the pattern, but has shape "
                f"{self.values.shape}; what is to be summed up goes through "
                "`pattern.assemble(values)`."
            )
        self.pattern, self.tags = pattern, as_tags(tags)
        m, n = pattern.shape
        self.structures = (
            _frozen(input_structure, n, "input_structure"),
            _frozen(output_structure, m, "output_structure"),
        )
        check_claims(self)

    @classmethod
    def from_coo(
        cls,
        values: ArrayLike,
        rows: Any,
        columns: Any,
        shape: tuple[int, int],
        tags: object = (),
    ) -> "SparseLinearOperator":
        """The operator of coordinates; values in one place are summed.

        Args:
            values: an array `[k]`.
            rows, columns: integer arrays `[k]`.
            shape: the number of rows and columns.
            tags: a tag or an iterable of tags.

        Returns:
            A `SparseLinearOperator`.
        """
        values = floating(values)
        _check_finite(values, rows, columns)
        pattern = SparsityPattern(rows, columns, shape)
        return cls(pattern.assemble(values), pattern.without_assembly(), tags)

    @classmethod
    def from_scipy(cls, matrix: Any, tags: object = ()) -> "SparseLinearOperator":
        """The operator of a SciPy sparse matrix or array, of any format.

        Args:
            matrix: the SciPy matrix; integers become floating, duplicates are summed.
            tags: a tag or an iterable of tags.

        Returns:
            A `SparseLinearOperator`.

        Raises:
            ValueError: no SciPy sparse matrix, damaged indices, or values that are not
                finite.
        """
        pattern, values = scipy_entries(matrix)
        _check_finite(values, pattern.rows, pattern.columns)
        return cls(values, pattern, tags)

    @classmethod
    def from_dense(
        cls, matrix: ArrayLike, tags: object = (), *, pattern: Any = None
    ) -> "SparseLinearOperator":
        """The operator of the nonzero elements of a dense matrix.

        Args:
            matrix: an array `[m, n]`.
            tags: a tag or an iterable of tags.
            pattern: the `SparsityPattern` of the elements to take, zeros or not; needed
                where the matrix is traced.

        Returns:
            A `SparseLinearOperator`.
        """
        pattern = SparsityPattern.from_dense(matrix) if pattern is None else pattern
        matrix = floating(matrix)
        if matrix.shape != pattern.shape:
            raise ValueError(
                f"`matrix` has shape {matrix.shape}, but the pattern {pattern.shape}."
            )
        values = matrix[pattern.rows, pattern.columns]
        _check_finite(values, pattern.rows, pattern.columns)
        return cls(values, pattern, tags)

    @classmethod
    def from_bcoo(cls, matrix: Any, tags: object = ()) -> "SparseLinearOperator":
        """The operator of a `jax.experimental.sparse.BCOO` matrix without batch and
        dense axes. Entries that pad it, outside of the matrix, are dropped.

        Args:
            matrix: the BCOO matrix.
            tags: a tag or an iterable of tags.

        Returns:
            A `SparseLinearOperator`. Under `jit`, where indices are traced, it serves
            products and iterative solvers; for direct ones build it outside.
        """
        indices, data = getattr(matrix, "indices", None), getattr(matrix, "data", None)
        if indices is None or data is None or jnp.ndim(indices) != 2:
            raise ValueError(_not_plain("BCOO", matrix))
        if jnp.ndim(data) != 1 or indices.shape[1] != 2 or len(matrix.shape) != 2:
            raise ValueError(_not_plain("BCOO", matrix))
        rows, columns = indices[:, 0], indices[:, 1]
        m, n = matrix.shape
        inside = (rows < m) & (columns < n)
        if isinstance(inside, jax.core.Tracer):
            data = jnp.where(inside, data, jnp.zeros_like(data))
            rows, columns = (jnp.where(inside, x, 0) for x in (rows, columns))
        else:
            keep = np.flatnonzero(np.asarray(inside))
            if keep.size < rows.size:
                rows, columns, data = (x[keep] for x in (rows, columns, data))
        return cls.from_coo(data, rows, columns, matrix.shape, tags)

    @classmethod
    def from_bcsr(cls, matrix: Any, tags: object = ()) -> "SparseLinearOperator":
        """The operator of a `jax.experimental.sparse.BCSR` matrix without batch and
        dense axes.

        Args:
            matrix: the BCSR matrix.
            tags: a tag or an iterable of tags.

        Returns:
            A `SparseLinearOperator`. Under `jit`, where indices are traced, it serves
            products and iterative solvers; for direct ones build it outside.
        """
        starts, columns = (getattr(matrix, x, None) for x in ("indptr", "indices"))
        if starts is None or columns is None or jnp.ndim(starts) != 1:
            raise ValueError(_not_plain("BCSR", matrix))
        if jnp.ndim(matrix.data) != 1 or len(matrix.shape) != 2:
            raise ValueError(_not_plain("BCSR", matrix))
        (m, n), size = matrix.shape, columns.size
        if isinstance(starts, jax.core.Tracer):
            entries = jnp.arange(size, dtype=starts.dtype)
            rows = jnp.searchsorted(starts, entries, side="right") - 1
            return cls.from_coo(matrix.data, rows, columns, (m, n), tags)
        check_pointers(starts, m, size, "row")
        lengths = np.diff(np.asarray(starts, np.int64))
        rows = np.repeat(np.arange(m), lengths)
        data, columns = matrix.data[: rows.size], columns[: rows.size]
        if not isinstance(columns, jax.core.Tracer):
            check_range(np.asarray(columns), n, "column", (m, n))
        return cls.from_coo(data, rows, columns, (m, n), tags)

    def to_scipy(self) -> Any:
        """The matrix as a `scipy.sparse.csr_array`.

        Raises:
            ValueError: the operator is traced.
        """
        import scipy.sparse

        pattern = self.pattern
        arrays = (self.values, pattern.columns, pattern.row_starts)
        if any(isinstance(x, jax.core.Tracer) for x in arrays):
            raise ValueError(
                "a traced operator has no values to put into a SciPy matrix; call "
                "`to_scipy` outside of `jit`."
            )
        out = scipy.sparse.csr_array(
            tuple(np.array(x) for x in arrays), shape=pattern.shape
        )
        out.sum_duplicates()
        return out

    def to_bcoo(self) -> Any:
        """The matrix as a `jax.experimental.sparse.BCOO`."""
        from jax.experimental import sparse

        pattern = self.pattern
        indices = jnp.stack([pattern.rows, pattern.columns], axis=1)
        return sparse.BCOO(
            (self.values, indices),
            shape=pattern.shape,
            indices_sorted=True,
            unique_indices=pattern.exact,
        )

    def submatrix(self, rows: Any, columns: Any) -> "SparseLinearOperator":
        """Some rows and columns, in the order they are given.

        Where this is done often, keep `pattern.submatrix(rows, columns)`: its
        `assemble` takes values of this pattern to those of the submatrix, also under
        `jit`.

        Args:
            rows, columns: integer arrays without duplicates, or masks `[m]` and `[n]`.

        Returns:
            A `SparseLinearOperator` without tags.
        """
        pattern = self.pattern.submatrix(rows, columns)
        values = pattern.assemble(self.values)
        return SparseLinearOperator(values, pattern.without_assembly())

    def with_dirichlet(self, fixed: Any) -> "SparseLinearOperator":
        """The matrix with the rows and columns of fixed unknowns replaced by those of
        the identity: what remains after known values have been moved to the right-hand
        side. The pattern stays; its tags, too.

        With x known to be g where `fixed`, solve with the right-hand side
        `jnp.where(fixed, g, b - A.mv(jnp.where(fixed, g, 0)))`.

        Args:
            fixed: a mask `[n]`; it may be traced.

        Returns:
            A `SparseLinearOperator`.

        Raises:
            ValueError: a matrix that is not square, another shape, or a fixed unknown
                whose diagonal element is no entry of the pattern.
        """
        pattern, (m, n) = self.pattern, self.pattern.shape
        fixed = jnp.asarray(fixed)
        if m != n or fixed.shape != (n,) or fixed.dtype != bool:
            raise ValueError(
                f"`fixed` must be a mask of a square matrix, bool [{n}], but is "
                f"{fixed.dtype} of shape {fixed.shape}, and the matrix is {m} by {n}."
            )
        on = pattern.rows == pattern.columns
        _check_diagonal(pattern, on, fixed)
        values = jnp.where(on, jnp.ones_like(self.values), jnp.zeros_like(self.values))
        free = ~(fixed[pattern.rows] | fixed[pattern.columns])
        return rebuilt(self, values=jnp.where(free, self.values, values))

    def mv(self, vector):
        if self.values.ndim != 1:
            raise ValueError(
                f"the operator is a batch: its values have shape {self.values.shape}; "
                "map over it by `equinox.filter_vmap(lambda operator: ...)(operators)`."
            )
        x, out = conformed(self, self.values.dtype, vector)
        return out(product(self.values.astype(x.dtype), x, self.pattern))

    def as_matrix(self):
        pattern = self.pattern
        zeros = jnp.zeros(pattern.shape, self.values.dtype)
        return zeros.at[pattern.rows, pattern.columns].add(
            self.values,
            indices_are_sorted=True,
            unique_indices=pattern.exact,
            mode="promise_in_bounds",
        )

    def transpose(self):
        if is_own_transpose(self):
            return self
        values = transposed_values(self.values, self.pattern)
        return rebuilt(
            self,
            values=values,
            pattern=self.pattern.T,
            tags=transpose_tags(self.tags),
            structures=self.structures[::-1],
        )

    def in_structure(self):
        return structure(self, 0, self.values.dtype)

    def out_structure(self):
        return structure(self, 1, self.values.dtype)

    shape = property(shape_of)
    dtype = property(dtype_of)


def rebuilt(operator: Any, **fields: Any) -> SparseLinearOperator:
    """The same operator with other fields, which are known to fit."""
    out = _new(SparseLinearOperator)
    for name in ("values", "pattern", "tags", "structures"):
        value = fields[name] if name in fields else getattr(operator, name)
        object.__setattr__(out, name, value)
    return out


def _frozen(structure: PyTree | None, size: int, argument: str) -> Frozen | None:
    if structure is None:
        return None
    frozen = freeze_structure(structure, argument)
    if size_of(frozen.thaw()) != size:
        raise ValueError(
            f"`{argument}` must have {size} scalars, as many as the pattern has "
            f"{'columns' if argument[0] == 'i' else 'rows'}, but is "
            f"{describe(frozen.thaw())}."
        )
    flat = len(frozen.leaves) == 1 and frozen.leaves[0].shape == (size,)
    leaf_alone = frozen.treedef == jax.tree_util.tree_structure(0)
    return None if flat and leaf_alone else frozen


def structure(operator: Any, side: int, dtype: Any) -> Structure:
    """The input structure, side 0, or the output structure, side 1."""
    frozen = operator.structures[side]
    if frozen is None:
        return jax.ShapeDtypeStruct((operator.pattern.shape[1 - side],), dtype)
    leaves = [jax.ShapeDtypeStruct(x.shape, dtype) for x in frozen.leaves]
    return jax.tree_util.tree_unflatten(frozen.treedef, leaves)


def conformed(
    operator: Any, dtype: Any, vector: PyTree, transposed: bool = False
) -> tuple[Array, Any]:
    """A vector flat, and what makes a flat product one of the output structure."""
    side = int(transposed)
    x = conform(vector, structure(operator, side, dtype), "the vector")
    x = x if operator.structures[side] is None else ravel(x)

    def out(y: Array) -> PyTree[Array]:
        if operator.structures[1 - side] is None:
            return y
        return unravel(y, structure(operator, 1 - side, dtype))

    return x, out


def _check_diagonal(pattern: SparsityPattern, on: Array, fixed: Array) -> None:
    if any(isinstance(x, jax.core.Tracer) for x in (pattern.rows, fixed)):
        return
    present = np.zeros(pattern.shape[0], bool)
    present[np.asarray(pattern.rows)[np.asarray(on)]] = True
    missing = np.flatnonzero(np.asarray(fixed) & ~present)
    if missing.size:
        raise ValueError(
            f"unknown {missing[0]} is fixed, but its diagonal element is no entry of "
            "the pattern; add it, with value 0, to what the pattern is made of."
        )


def _check_finite(values: Any, rows: Any, columns: Any) -> None:
    if isinstance(values, jax.core.Tracer):
        return
    finite = np.isfinite(np.asarray(values))
    if not finite.all():
        k = int(np.argmin(finite))
        where = ""
        if not any(isinstance(x, jax.core.Tracer) for x in (rows, columns)):
            where = f", in row {int(rows[k])} and column {int(columns[k])},"
        raise ValueError(f"entry {k}{where} is {values[k]}; values must be finite.")


def _not_plain(kind: str, matrix: Any) -> str:
    got = f"a value of type `{type(matrix).__name__}`"
    if hasattr(matrix, "n_batch"):
        got = f"{matrix!r} with {matrix.n_batch} batch and {matrix.n_dense} dense axes"
    return f"the {kind} matrix must have no batch or dense axes, but is {got}."


@declared.register
def _(operator: SparseLinearOperator):
    pattern, tags = operator.pattern, set(operator.tags)
    if pattern.shape[0] != pattern.shape[1]:
        return frozenset(tags)
    if pattern.is_diagonal:
        tags.add(diagonal_tag)
    if pattern.lower <= 1 and pattern.upper <= 1:
        tags.add(tridiagonal_tag)
    if pattern.is_lower:
        tags.add(lower_triangular_tag)
    if pattern.is_upper:
        tags.add(upper_triangular_tag)
    return frozenset(tags)


@materialise.register
def _(operator: SparseLinearOperator):
    return operator


@conj.register
def _(operator: SparseLinearOperator):
    if not jnp.iscomplexobj(operator.values):
        return operator
    return rebuilt(operator, values=operator.values.conj())


@adjoint_product.register
def _(operator: SparseLinearOperator):
    def adjoint(vector: PyTree) -> PyTree:
        y, out = conformed(operator, operator.values.dtype, vector, transposed=True)
        values = operator.values.astype(y.dtype).conj()
        return out(transposed_product(values, y, operator.pattern))

    return adjoint


def _offset(operator: SparseLinearOperator, offset: int) -> Array:
    """The elements (i, i + offset), zero where there is no entry."""
    pattern, (m, n) = operator.pattern, operator.pattern.shape
    first = max(offset, 0)
    size = max(min(n, m + offset) - first, 0)
    here = pattern.columns - pattern.rows == offset
    values = jnp.where(here, operator.values, jnp.zeros_like(operator.values))
    sums = jax.ops.segment_sum(values, pattern.rows, m, indices_are_sorted=True)
    return sums[first - offset : first - offset + size]


@diagonal.register
def _(operator: SparseLinearOperator):
    return _offset(operator, 0)


@tridiagonal.register
def _(operator: SparseLinearOperator):
    check_square(operator)
    main, lower, upper = (_offset(operator, k) for k in (0, -1, 1))
    return main, lower, upper


@bandwidths.register
def _(operator: SparseLinearOperator):
    pattern = operator.pattern
    (m, n), width = pattern.shape, pattern.lower + pattern.upper + 1
    if m != n or not pattern.exact or width * n > WIDEST * pattern.size:
        return None
    return pattern.lower, pattern.upper


@bands.register
def _(operator: SparseLinearOperator):
    pattern = operator.pattern
    n, width = pattern.shape[1], pattern.lower + pattern.upper + 1
    band = pattern.upper + pattern.rows - pattern.columns
    zeros = jnp.zeros((width, n), operator.values.dtype)
    return zeros.at[band, pattern.columns].add(operator.values)


@layout.register
def _(operator: SparseLinearOperator):
    pattern, (m, n) = operator.pattern, operator.pattern.shape
    words = [
        f"{short_dtype(operator.values.dtype)}[{m}, {n}]",
        f"{pattern.size} entries",
        f"{100 * pattern.density:.2g} %",
        pattern.form,
    ]
    words += sorted(getattr(tag, "name", repr(tag)) for tag in declared(operator))
    return f"SparseLinearOperator({', '.join(words)})", ATOM
