"""The operator of a sparse matrix."""

from typing import Any

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Inexact, PyTree

from .._checks import check_claims
from .._functions import (
    adjoint_product,
    conj,
    materialise,
)
from .._operator import AbstractLinearOperator
from .._properties import declared, is_own_transpose
from .._structures import (
    Frozen,
    dtype_of,
    floating,
    shape_of,
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
from ._dirichlet import clamped, clamped_tags
from ._formats import (
    check_finite,
    coordinates_of_bcoo,
    coordinates_of_bcsr,
    coordinates_of_scipy,
)
from ._spaces import conformed, frozen, structure
from .pattern import SparsityPattern
from .product import product, transposed_product, transposed_values

_new = object.__new__


class SparseLinearOperator(AbstractLinearOperator):
    """A sparse matrix, stored as its entries.

    Its values are the only differentiable part: the derivative of a product, or of a
    solve, has one number for each entry, and no matrix `[m, n]` is formed.

    Args:
        values: the entries, `[size]`, in the order of the pattern: by row, then by
            column. Integers become floating.
        pattern: where the entries are, a `SparsityPattern`.
        tags: a tag or an iterable of tags. Properties that follow from the pattern
            (diagonal, triangular, tridiagonal) need no tag.
        input_structure, output_structure: pytrees of `jax.ShapeDtypeStruct` (or of
            arrays), if vectors are not arrays `[n]` and `[m]`; their dtypes are those
            of `values`.

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
            frozen(input_structure, n, "input_structure"),
            frozen(output_structure, m, "output_structure"),
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
        """A sparse operator from coordinates; values at the same place are summed.

        Args:
            values: an array `[k]`.
            rows, columns: integer arrays `[k]`.
            shape: the number of rows and columns.
            tags: a tag or an iterable of tags.

        Returns:
            A `SparseLinearOperator`.
        """
        values = floating(values)
        check_finite(values, rows, columns)
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
            ValueError: not a SciPy sparse matrix, damaged indices, or values that are
                not finite.
        """
        coordinates, values = coordinates_of_scipy(matrix)
        check_finite(values, *coordinates[:2])
        pattern = SparsityPattern(*coordinates)
        numbers: Any = floating(values)
        return cls(pattern.assemble(numbers), pattern.without_assembly(), tags)

    @classmethod
    def from_dense(
        cls, matrix: ArrayLike, tags: object = (), *, pattern: Any = None
    ) -> "SparseLinearOperator":
        """The operator of the nonzero elements of a dense matrix.

        Args:
            matrix: an array `[m, n]`.
            tags: a tag or an iterable of tags.
            pattern: the `SparsityPattern` of the elements to take, zeros or not; needed
                if the matrix is traced.

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
        check_finite(values, pattern.rows, pattern.columns)
        return cls(values, pattern, tags)

    @classmethod
    def from_bcoo(cls, matrix: Any, tags: object = ()) -> "SparseLinearOperator":
        """The operator of a `jax.experimental.sparse.BCOO` matrix without batch and
        dense axes. Entries outside the matrix, which pad it, are dropped.

        Args:
            matrix: the BCOO matrix.
            tags: a tag or an iterable of tags.

        Returns:
            A `SparseLinearOperator`. Under `jit`, where indices are traced, it serves
            products and iterative solvers; for direct ones build it outside.
        """
        return cls.from_coo(*coordinates_of_bcoo(matrix), tags)

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
        return cls.from_coo(*coordinates_of_bcsr(matrix), tags)

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

        If you do this often, keep `pattern.submatrix(rows, columns)`: its `assemble`
        maps values of this pattern to those of the submatrix, also under `jit`.

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
        the identity, as when known values are moved to the right-hand side. The pattern
        does not change. Nor do the tags, except that the result of a negative
        semidefinite matrix is only Hermitian, and that of a nonsingular one is only
        known to be nonsingular if it is positive definite or triangular.

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
        values = clamped(self.values, self.pattern, fixed)
        return rebuilt(self, values=values, tags=clamped_tags(self.tags))

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
