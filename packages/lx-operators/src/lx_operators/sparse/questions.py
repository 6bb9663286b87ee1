"""How sparse operators answer generic functions and questions."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from .._bands import WIDEST
from .._checks import check_square
from .._functions import bands, bandwidths, diagonal, tridiagonal
from .._printing import ATOM, layout
from .._properties import declared
from .._structures import short_dtype
from .entries import SparseLinearOperator


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


def asymmetry(operator: SparseLinearOperator, conjugate: bool) -> float:
    """The largest |aᵢⱼ - aⱼᵢ|, or |aᵢⱼ - conj aⱼᵢ|, relative to the largest element."""
    matrix = operator.to_scipy()
    mirrored = matrix.conj().T if conjugate else matrix.T
    off, scale = (abs(each).max() for each in (matrix - mirrored, matrix))
    return float(off / scale) if off else 0.0


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
