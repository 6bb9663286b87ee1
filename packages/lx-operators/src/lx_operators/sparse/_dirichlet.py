"""Prescribed unknowns: rows and columns replaced by those of the identity."""

from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact

from .._tags import (
    Tags,
    diagonal_tag,
    hermitian_tag,
    lower_triangular_tag,
    negative_semidefinite_tag,
    nonsingular_tag,
    positive_semidefinite_tag,
    upper_triangular_tag,
)
from .pattern import SparsityPattern

_TRIANGULAR = {diagonal_tag, lower_triangular_tag, upper_triangular_tag}


def clamped(
    values: Inexact[Array, " size"], pattern: SparsityPattern, fixed: Any
) -> Inexact[Array, " size"]:
    """The values with those rows and columns replaced."""
    m, n = pattern.shape
    fixed = jnp.asarray(fixed)
    if m != n or fixed.shape != (n,) or fixed.dtype != bool:
        raise ValueError(
            f"`fixed` must be a mask of a square matrix, bool [{n}], but is "
            f"{fixed.dtype} of shape {fixed.shape}, and the matrix is {m} by {n}."
        )
    on = pattern.rows == pattern.columns
    _check_diagonal(pattern, fixed)
    if not pattern.exact:  # entries in one place follow each other: the first
        before = jnp.roll(pattern.rows, 1), jnp.roll(pattern.columns, 1)
        again = (before[0] == pattern.rows) & (before[1] == pattern.columns)
        on = on & ~again.at[:1].set(False)
    identity = jnp.where(on, jnp.ones_like(values), jnp.zeros_like(values))
    free = ~(fixed[pattern.rows] | fixed[pattern.columns])
    return jnp.where(free, values, identity)


def clamped_tags(tags: Tags) -> Tags:
    """The tags that a matrix keeps if some rows and columns become the identity's."""
    kept = set(tags) - {negative_semidefinite_tag}
    if negative_semidefinite_tag in tags:
        kept.add(hermitian_tag)
    positive = positive_semidefinite_tag in tags
    if not positive and kept.isdisjoint(_TRIANGULAR):
        kept.discard(nonsingular_tag)
    return frozenset(kept)


def _check_diagonal(pattern: SparsityPattern, fixed: Array) -> None:
    if any(isinstance(x, jax.core.Tracer) for x in (pattern.rows, fixed)):
        return
    rows, columns = np.asarray(pattern.rows), np.asarray(pattern.columns)
    present = np.zeros(pattern.shape[0], bool)
    present[rows[rows == columns]] = True
    missing = np.flatnonzero(np.asarray(fixed) & ~present)
    if missing.size:
        raise ValueError(
            f"unknown {missing[0]} is fixed, but its diagonal element is no entry of "
            "the pattern; add it, with value 0, to what the pattern is made of."
        )
