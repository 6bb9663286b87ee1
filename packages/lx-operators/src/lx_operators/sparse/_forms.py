"""The ways to sum the rows of a sparse matrix, and which suits which pattern."""

from jaxtyping import Array, Inexact

from ._index_maps import segment_sums, taken
from .pattern import SparsityPattern


def summed_rows(
    values: Inexact[Array, "*b size"],
    x: Inexact[Array, "..."],
    pattern: SparsityPattern,
) -> Inexact[Array, "..."]:
    """yᵢ = Σₑ vₑ x[columnₑ] over the entries e of row i."""
    axis = values.ndim - 1
    terms = taken(x, pattern.columns, axis)
    terms = terms * values.reshape(*values.shape, *(1,) * (terms.ndim - values.ndim))
    return segment_sums(terms, pattern.rows, pattern.shape[0], axis)
