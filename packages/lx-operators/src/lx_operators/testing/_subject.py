"""An operator under test, and the checks that laws use."""

from typing import Any

import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, PyTree

from .. import _properties as properties
from .._operator import AbstractLinearOperator
from .._printing import summary
from .._properties import known
from .._structures import (
    Structure,
    cast,
    common_dtype,
    complex_to_real_dtype,
    is_real,
    promote_types,
    size_of,
    structure_of,
    structures_of,
    unravel,
)
from .._tags import (
    diagonal_tag,
    hermitian_tag,
    lower_triangular_tag,
    negative_semidefinite_tag,
    nonsingular_tag,
    positive_semidefinite_tag,
    symmetric_tag,
    tridiagonal_tag,
    unit_diagonal_tag,
    upper_triangular_tag,
)
from ..verification.by_matrix import deviation

QUESTIONS = {
    symmetric_tag: properties.is_symmetric,
    hermitian_tag: properties.is_hermitian,
    diagonal_tag: properties.is_diagonal,
    tridiagonal_tag: properties.is_tridiagonal,
    unit_diagonal_tag: properties.has_unit_diagonal,
    lower_triangular_tag: properties.is_lower_triangular,
    upper_triangular_tag: properties.is_upper_triangular,
    positive_semidefinite_tag: properties.is_positive_semidefinite,
    negative_semidefinite_tag: properties.is_negative_semidefinite,
    nonsingular_tag: properties.is_nonsingular,
}


class Subject:
    """An operator under test, its matrix by products, and comparisons."""

    def __init__(self, operator: AbstractLinearOperator, dtype: str):
        self.operator = operator
        self.dtype = dtype
        self.reseed(0)
        ins, outs = structures_of(operator)
        self.epsilon = max(
            (float(jnp.finfo(x.dtype).eps) for x in jtu.tree_leaves((ins, outs))),
            default=0.0,
        )
        basis = np.eye(size_of(ins))
        columns = [self.times(e) for e in basis]
        self.dense = np.stack(columns, axis=1) if columns else _no_columns(outs)

    def reseed(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def flat(self, structure: Structure) -> np.ndarray:
        """A random vector; the elements of real leaves are real."""
        parts = [np.zeros(0)]
        for leaf in jtu.tree_leaves(structure):
            real, imag = self._random.standard_normal((2, leaf.size))
            parts.append(real if is_real(leaf) else real + 1j * imag)
        narrow = np.concatenate(parts)
        dtype = complex_to_real_dtype(common_dtype(structure))
        return narrow.astype(_complex_if(dtype, narrow)).astype(narrow.dtype)

    def vector(self) -> PyTree[Array]:
        ins, _ = structures_of(self.operator)
        return vector_of(self.flat(ins), ins)

    def like(self, array: Array) -> Array:
        """A random array of the same shape and dtype."""
        structure = structure_of(array)
        return vector_of(self.flat(structure), structure)

    def times(self, x: np.ndarray) -> np.ndarray:
        return times(self.operator, x)

    # Demands

    def fail(self, what: str) -> None:
        raise AssertionError(f"{summary(self.operator)} ({self.dtype}): {what}")

    def demand(self, holds: Any, what: str) -> None:
        if not holds:
            self.fail(what)

    def equal(self, got: Any, wanted: Any, what: str) -> None:
        self.demand(got == wanted, f"{what} is {got!r}, but should be {wanted!r}")

    def close(
        self, got: Any, wanted: Any, what: str, scale: float = 0.0, slack: float = 1.0
    ) -> None:
        got, wanted = wide(got), wide(wanted)
        self.equal(got.shape, wanted.shape, f"the shape of {what}")
        scale = max(scale, float(np.max(np.abs(wanted), initial=0.0)), 1.0)
        error = float(np.max(np.abs(got - wanted), initial=0.0))
        self.demand(
            error <= 500 * slack * self.epsilon * scale,
            f"{what} is off by {error:.1e}:\n{got}\nbut should be\n{wanted}",
        )

    def same(
        self, operator: AbstractLinearOperator, matrix: np.ndarray, what: str
    ) -> None:
        """Checks for this operator's structures and for this matrix."""
        self.equal(
            structures_of(operator),
            structures_of(self.operator),
            f"the structures of {what}",
        )
        self._acts_as(operator, matrix, what)

    def reflected(
        self, operator: AbstractLinearOperator, matrix: np.ndarray, what: str
    ) -> None:
        """Checks for this operator's structures, swapped, and for this matrix."""
        swapped = structures_of(self.operator)[::-1]
        self.equal(structures_of(operator), swapped, f"the structures of {what}")
        self._acts_as(operator, matrix, what)

    def _acts_as(
        self, operator: AbstractLinearOperator, matrix: np.ndarray, what: str
    ) -> None:
        self.close(operator.as_matrix(), matrix, f"({what}).as_matrix()")
        ins, outs = structures_of(operator)
        x = self.flat(ins)
        out = operator.mv(vector_of(x, ins))
        self.equal(structure_of(out), outs, f"the structure of ({what}).mv")
        self.close(ravel_leaves(out), matrix @ x, f"({what}).mv")

    def knows(self, operator: AbstractLinearOperator, tags: Any, what: str) -> None:
        missing = {repr(tag) for tag in tags & frozenset(QUESTIONS) - known(operator)}
        self.demand(not missing, f"{what} forgets {missing}")

    def honest(
        self, operator: AbstractLinearOperator, matrix: np.ndarray, what: str
    ) -> None:
        """Every claim is true of the matrix."""
        scale = max(1.0, float(np.max(np.abs(matrix), initial=0.0)))
        for tag in claims(operator):
            error, _ = deviation(tag, matrix)
            self.demand(
                error <= 500 * self.epsilon * scale,
                f"{what} claims to be {tag.name}, but is\n{matrix}",
            )


def claims(operator: AbstractLinearOperator) -> frozenset:
    return frozenset(tag for tag, question in QUESTIONS.items() if question(operator))


def _no_columns(outs: Structure) -> np.ndarray:
    return np.zeros((size_of(outs), 0))


def _complex_if(real: Any, values: np.ndarray) -> Any:
    """The dtype to round random numbers to: `real`, or its complex companion."""
    if not np.iscomplexobj(values):
        return real
    return promote_types(real, jnp.complex64)


def vector_of(x: np.ndarray, structure: Structure) -> PyTree[Array]:
    """A flat NumPy vector as one of this structure, exactly."""
    vector = unravel(jnp.asarray(x), structure)
    return jtu.tree_map(lambda leaf, s: cast(leaf, s.dtype), vector, structure)


def times(operator: AbstractLinearOperator, x: np.ndarray) -> np.ndarray:
    return wide(ravel_leaves(operator.mv(vector_of(x, structures_of(operator)[0]))))


def ravel_leaves(vector: PyTree[Array]) -> Array:
    leaves = [jnp.ravel(leaf) for leaf in jtu.tree_leaves(vector)]
    dtype = common_dtype(leaves)
    return jnp.concatenate([leaf.astype(dtype) for leaf in leaves] or [jnp.zeros(0)])


def wide(x: Any) -> np.ndarray:
    x = np.asarray(x)
    return x.astype(np.complex128 if np.iscomplexobj(x) else np.float64)


def norm(x: np.ndarray) -> float:
    return float(np.linalg.norm(x))
