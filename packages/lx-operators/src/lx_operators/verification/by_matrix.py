"""Small operators, checked element by element on their dense matrix."""

from collections.abc import Callable, Iterator

import equinox as eqx
import numpy as np
from jaxtyping import Array

from .._operator import AbstractLinearOperator
from .._probing import by_columns
from .._properties import known
from .._tags import (
    Tag,
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
from .report import Check
from .vectors import relative, wide


@eqx.filter_jit
def _columns(operator: AbstractLinearOperator) -> Array:
    return by_columns(operator)


def by_matrix(operator: AbstractLinearOperator, rtol: float) -> Iterator[Check]:
    """Every tag, read off the dense matrix, and `as_matrix` compared with it."""
    matrix = wide(_columns(operator))
    stored = wide(operator.as_matrix())
    scale = float(np.max(np.abs(matrix), initial=0.0))
    shape = stored.shape == matrix.shape
    error = np.max(np.abs(stored - matrix), initial=0.0) if shape else np.inf
    yield Check("as_matrix", relative(error, scale), rtol, "dense matrix by products")
    for tag in promised(operator):
        off, how = TAGS[tag](matrix)
        if shape:  # the stored matrix must keep the promise as well
            off = np.maximum(off, TAGS[tag](stored)[0])
        absolute = tag in (unit_diagonal_tag, nonsingular_tag)
        error = float(off) if absolute else relative(off, scale)
        yield Check(tag.name, error, rtol, how)


def promised(operator: AbstractLinearOperator) -> list[Tag]:
    """The tags that can be checked, in the order of the table below."""
    tags = known(operator)
    return [tag for tag in TAGS if tag in tags]


def _off(mask: Callable[[np.ndarray], np.ndarray]) -> Callable:
    """The largest of the elements that should be zero."""
    return lambda a: (np.max(np.abs(mask(a)), initial=0.0), "elements")


def _if_square(measure: Callable[[np.ndarray], float]) -> Callable:
    def measured(a: np.ndarray) -> tuple[float, str]:
        if a.shape[0] != a.shape[1]:
            return np.inf, "shape"
        return measure(a), "elements"

    return measured


def _semidefinite(sign: int) -> Callable:
    def measure(a: np.ndarray) -> tuple[float, str]:
        off, _ = TAGS[hermitian_tag](a)
        if not np.isfinite(off):
            return np.inf, "eigenvalues"
        least = np.min(np.linalg.eigvalsh(sign * (a + a.conj().T) / 2), initial=0.0)
        return np.maximum(off, -least), "eigenvalues"

    return measure


def _rank_deficiency(a: np.ndarray) -> tuple[float, str]:
    """1 if the rank is deficient to working precision (ε max(m, n)), else 0."""
    if not np.all(np.isfinite(a)):
        return np.inf, "singular values"
    values = np.linalg.svd(a, compute_uv=False)
    if not values.size:
        return 0.0, "singular values"
    least = max(a.shape) * np.finfo(a.dtype).eps * values[0]
    return float(values[-1] <= least), "singular values"


TAGS: dict[Tag, Callable[[np.ndarray], tuple[float, str]]] = {
    diagonal_tag: _off(lambda a: a - _band(a, 0)),
    tridiagonal_tag: _off(lambda a: a - _band(a, 1)),
    lower_triangular_tag: _off(lambda a: np.triu(a, 1)),
    upper_triangular_tag: _off(lambda a: np.tril(a, -1)),
    unit_diagonal_tag: _off(lambda a: np.diagonal(a) - 1),
    symmetric_tag: _if_square(lambda a: np.max(np.abs(a - a.T), initial=0.0)),
    hermitian_tag: _if_square(lambda a: np.max(np.abs(a - a.conj().T), initial=0.0)),
    positive_semidefinite_tag: _semidefinite(1),
    negative_semidefinite_tag: _semidefinite(-1),
    nonsingular_tag: _rank_deficiency,
}


def deviation(tag: Tag, matrix: np.ndarray) -> tuple[float, str]:
    """How far a dense matrix is from what a tag promises, and how that was judged."""
    return TAGS[tag](matrix)


def _band(a: np.ndarray, width: int) -> np.ndarray:
    return np.tril(np.triu(a, -width), width)
