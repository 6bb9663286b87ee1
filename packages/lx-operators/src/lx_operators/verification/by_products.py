"""Large operators, checked by products with random vectors, which find a broken promise
with high probability."""

from collections.abc import Callable, Iterator

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array

from .._functions import sparse_form
from .._operator import AbstractLinearOperator
from .._probing import probe_tridiagonal
from .._structures import structures_of
from .._tags import (
    Tag,
    diagonal_tag,
    hermitian_tag,
    lower_triangular_tag,
    symmetric_tag,
    tridiagonal_tag,
    unit_diagonal_tag,
    upper_triangular_tag,
)
from ..sparse import _lazily as sparse
from .by_lanczos import by_lanczos
from .by_matrix import TAGS, promised
from .report import Check
from .vectors import norm, random_pairs, relative, times, wide, worst


@eqx.filter_jit
def _bands(operator: AbstractLinearOperator) -> tuple[Array, Array, Array]:
    return probe_tridiagonal(operator)


def by_products(
    operator: AbstractLinearOperator,
    key: Array,
    probes: int,
    steps: int,
    rtol: float,
) -> Iterator[Check]:
    """Every tag, by products with random vectors that look for a contradiction."""
    ins, _ = structures_of(operator)
    entries = sparse_form(operator)
    for tag, k in zip(promised(operator), jax.random.split(key, len(TAGS))):
        if tag in (symmetric_tag, hermitian_tag) and entries is not None:
            error = sparse.asymmetry(entries, tag is hermitian_tag)
            yield Check(tag.name, error, rtol, "entries")
        elif tag in _BY_PROBE:
            pairs = random_pairs((ins, ins), k, probes)
            error = worst(_BY_PROBE[tag](operator, *pair) for pair in pairs)
            yield Check(tag.name, error, rtol, f"{probes} random products")
        else:
            error, how = by_lanczos(operator, tag, k, steps)
            yield Check(tag.name, error, rtol, how)


def _probe_symmetric(operator, x, y, conj: Callable = lambda v: v) -> float:
    ax, ay = times(operator, x), times(operator, y)
    error = abs(conj(y) @ ax - conj(ay) @ x)
    return relative(error, norm(y) * norm(ax) + norm(ay) * norm(x))


def _probe_hermitian(operator, x, y) -> float:
    return _probe_symmetric(operator, x, y, np.conj)


def _probe_diagonal(operator, x, y) -> float:
    main, ax = times(operator, np.ones(x.size)), times(operator, x)
    return relative(norm(ax - main * x), norm(ax))


def _probe_tridiagonal(operator, x, y) -> float:
    ax = times(operator, x)
    if ax.size != x.size:  # rectangular: far columns must not show in the first row
        far = np.where(np.arange(x.size) > 1, x, 0)
        return relative(abs(times(operator, far)[:1]).max(initial=0), norm(ax))
    main, lower, upper = (wide(band) for band in _bands(operator))
    expected = main * x
    expected[1:] += lower * x[:-1]
    expected[:-1] += upper * x[1:]
    return relative(norm(ax - expected), norm(ax))


def _probe_lower(operator, x, y) -> float:
    """Elements from k on must not affect the rows above row k."""
    k = _split(y)
    late = np.where(np.arange(x.size) >= k, x, 0)
    return relative(norm(times(operator, late)[:k]), norm(times(operator, x)))


def _probe_upper(operator, x, y) -> float:
    """Elements before k must not affect row k and the rows below it."""
    k = _split(y)
    early = np.where(np.arange(x.size) < k, x, 0)
    return relative(norm(times(operator, early)[k:]), norm(times(operator, x)))


def _split(y: np.ndarray) -> int:
    """A random index, from a random vector's bits."""
    seed = int(abs(y[0].real) * 2**32)
    return int(np.random.default_rng(seed).integers(1, y.size))


def _probe_unit(operator, x, y) -> float:
    """A random column's diagonal element must be one."""
    k = _split(y) - 1
    out = times(operator, (np.arange(x.size) == k).astype(float))
    return float(abs(out[k] - 1)) if k < out.size else 0.0


_BY_PROBE: dict[Tag, Callable[..., float]] = {
    symmetric_tag: _probe_symmetric,
    hermitian_tag: _probe_hermitian,
    diagonal_tag: _probe_diagonal,
    tridiagonal_tag: _probe_tridiagonal,
    lower_triangular_tag: _probe_lower,
    upper_triangular_tag: _probe_upper,
    unit_diagonal_tag: _probe_unit,
}
