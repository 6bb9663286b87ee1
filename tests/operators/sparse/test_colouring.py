"""Colourings: valid by brute force, and few."""

import lx_operators as lx
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings, strategies as st
from lx_operators.sparse.colouring import colour


def _bands(n, *offsets):
    return sp.diags_array(
        [np.ones(n) for _ in offsets], offsets=offsets, shape=(n, n), format="csr"
    )


def _stencil(*sizes):
    """The pattern of a grid, each point with its neighbours along each axis."""
    out = sp.csr_array((1, 1))
    for n in sizes:
        chain, one = _bands(n, -1, 0, 1), sp.eye_array(out.shape[0])
        out = sp.kron(one, chain) + sp.kron(out, sp.eye_array(n))
    return out.tocsr()


def _box(n):
    chain = _bands(n, -1, 0, 1)
    return sp.kron(chain, chain).tocsr()


def _arrow(n):
    full = np.eye(n)
    full[0] = full[:, 0] = 1
    return sp.csr_array(full)


def _check(dense, found):
    """By definition, element by element."""
    match found.kind:
        case "columns":
            for c in range(found.count):
                assert dense[:, found.colours == c].sum(1).max(initial=0) <= 1
        case "rows":
            for c in range(found.count):
                assert dense[found.colours == c].sum(0).max(initial=0) <= 1
        case "symmetric":
            per_row = [dense[:, found.colours == c].sum(1) for c in range(found.count)]
            for i, j in np.argwhere(dense):
                direct = per_row[found.colours[j]][i] == 1
                assert direct or (i != j and per_row[found.colours[i]][j] == 1)


@given(st.integers(0, 12), st.integers(0, 12), st.floats(0, 0.6), st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_random(m, n, density, seed):
    mask = np.random.default_rng(seed).random((m, n)) < density
    pattern = lx.SparsityPattern.from_dense(mask)
    for kinds in (("columns",), ("rows",), ("columns", "rows")):
        found = colour(pattern, kinds)
        assert found.kind in kinds
        _check(mask, found)
    both = [colour(pattern, (kind,)).count for kind in ("columns", "rows")]
    assert found.count == min(both)
    square = mask[: min(m, n), : min(m, n)]
    square = square | square.T
    _check(square, colour(lx.SparsityPattern.from_dense(square), ("symmetric",)))


# The fewest colours that there can be are the entries of the fullest row.
@pytest.mark.parametrize(
    ("matrix", "count"),
    [
        (_bands(40, 0), 1),
        (_bands(40, -1, 0, 1), 3),
        (_bands(40, -3, -2, -1, 0, 1, 2), 6),
        (_stencil(10, 10), 5),
        (_stencil(7, 13), 5),
        (_stencil(5, 6, 7), 7),
        (_box(12), 9),
    ],
)
def test_stencils_take_the_fewest(matrix, count):
    found = colour(lx.SparsityPattern.from_scipy(matrix))
    assert found.count == count
    _check(matrix.toarray() != 0, found)


def test_without_a_grid():
    """Numbered at random, greedy takes at most a few more."""
    matrix = _stencil(12, 12)
    order = np.random.default_rng(0).permutation(144)
    matrix = matrix[order][:, order]
    found = colour(lx.SparsityPattern.from_scipy(matrix))
    assert 5 <= found.count <= 9
    _check(matrix.toarray() != 0, found)


def test_rows_where_they_are_fewer():
    mask = np.zeros((3, 30))
    mask[0] = 1
    mask[1, 3] = mask[2, 7] = 1
    found = colour(lx.SparsityPattern.from_dense(mask))
    assert (found.kind, found.count) == ("rows", 2)


def test_stars_are_fewer_than_columns():
    """An arrow takes as many columns as it has; as a star, two."""
    pattern = lx.SparsityPattern.from_scipy(_arrow(20))
    assert colour(pattern).count == 20
    found = colour(pattern, ("columns", "rows", "symmetric"))
    assert (found.kind, found.count) == ("symmetric", 2)
    _check(_arrow(20).toarray() != 0, found)
