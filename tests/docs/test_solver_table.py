"""The table of solvers says of every public solver what it does, truly."""

import importlib.util
from pathlib import Path

import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("tables", ROOT / "docs" / "tables.py")
tables = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tables)

rng = np.random.default_rng(0)
G = rng.standard_normal((4, 4)) + 4 * np.eye(4)
H = np.diag([3.0, -2.0, 1.0, -4.0]) + 0.1 * (G + G.T)
D = np.diag([1.0, 2.0, 3.0, 4.0])


def _matrix(A, tags=()):
    return lx.MatrixLinearOperator(jnp.asarray(A), tags)


def _sparse(A, tags=()):
    return lx.SparseLinearOperator.from_dense(A, tags)


def _deficient(A):
    """Rank one less, of the same structure."""
    values, W = np.linalg.eigh(A)
    return (W * np.where(np.arange(4) == 0, 0, values)) @ W.T


# For each need: an operator that meets it, one that does not (None: all do), and one
# that meets it and is singular.
BANDED = lx.BandedLinearOperator(jnp.full((3, 4), 1.0).at[1].set(4.0), 1, 1)
BLOCKS = lx.BlockDiagonalLinearOperator([_matrix(G), _matrix(D)])
BLOCK_ROWS = lx.BlockTridiagonalLinearOperator(
    jnp.tile(jnp.asarray(G[:2, :2]), (2, 1, 1)),
    jnp.ones((1, 2, 2)),
    jnp.ones((1, 2, 2)),
)
SEMI = _matrix(_deficient(D), lx.positive_semidefinite_tag)
GRID = lx.BlockLinearOperator(
    [[_matrix(G), _matrix(D)], [_matrix(np.ones((4, 4))), _matrix(D)]]
)
CASES = {
    "any": (_matrix(G[:, :3]), None, _matrix(G[:, [0, 0, 1]])),
    "square": (_matrix(G), _matrix(G[:, :3]), _matrix(_deficient(H))),
    "Hermitian": (
        _matrix(H, lx.symmetric_tag),
        _matrix(G),
        _matrix(_deficient(H), lx.symmetric_tag),
    ),
    "symmetric": (
        _matrix(H + 1j * D, lx.symmetric_tag),
        _matrix(G),
        _matrix(_deficient(H), lx.symmetric_tag),
    ),
    "definite": (
        _matrix(G @ G.T, lx.positive_semidefinite_tag),
        _matrix(G),
        _matrix(_deficient(D), lx.positive_semidefinite_tag),
    ),
    "triangular": (
        _matrix(np.tril(G), lx.lower_triangular_tag),
        _matrix(G),
        _matrix(np.tril(G) * [0, 1, 1, 1], lx.lower_triangular_tag),
    ),
    "tridiagonal": (
        _matrix(np.triu(np.tril(G, 1), -1), lx.tridiagonal_tag),
        _matrix(G),
        _matrix(np.triu(np.tril(G, 1), -1) * [0, 1, 1, 1], lx.tridiagonal_tag),
    ),
    "diagonal": (
        lx.DiagonalLinearOperator(jnp.diag(D)),
        _matrix(G),
        lx.DiagonalLinearOperator(jnp.diag(_deficient(D))),
    ),
    "banded": (BANDED, _matrix(G), 0.0 * BANDED),
    "block diagonal": (BLOCKS, _matrix(G), None),
    "block grid": (GRID, _matrix(G), None),
    "block tridiagonal": (BLOCK_ROWS, _matrix(G), 0.0 * BLOCK_ROWS),
    "Kronecker product": (
        lx.KroneckerLinearOperator(_matrix(G), _matrix(D)),
        _matrix(G),
        None,
    ),
    "Hermitian Kronecker sum": (
        lx.KroneckerSumLinearOperator(SEMI, _matrix(D, lx.symmetric_tag)),
        lx.KroneckerSumLinearOperator(_matrix(G), _matrix(G)),
        lx.KroneckerSumLinearOperator(SEMI, SEMI),
    ),
    "Kronecker sum": (
        lx.KroneckerSumLinearOperator(_matrix(G), _matrix(D)),
        _matrix(G),
        lx.KroneckerSumLinearOperator(_matrix(G), _matrix(-G)),
    ),
    "circulant": (
        lx.CirculantLinearOperator(jnp.array([3.0, 1.0, 0.5])),
        _matrix(G),
        lx.CirculantLinearOperator(jnp.array([-2.0, 1.0, 0.0, 1.0])),
    ),
    "Toeplitz": (
        lx.ToeplitzLinearOperator(jnp.array([3.0, 1.0, 0.5])),
        _matrix(G),
        lx.ToeplitzLinearOperator(jnp.ones(2)),
    ),
    "low-rank update": (
        lx.LowRankUpdateLinearOperator(
            lx.DiagonalLinearOperator(jnp.diag(D)), jnp.ones((4, 1))
        ),
        _matrix(G),
        None,
    ),
    "permutation": (lx.PermutationLinearOperator([1, 2, 0]), _matrix(G), None),
    "sparse": (_sparse(G), _matrix(G), _sparse(_deficient(H))),
    "sparse of any shape": (_sparse(G[:, :3]), _matrix(G), _sparse(G[:, [0, 0, 1]])),
    "sparse definite": (
        _sparse(G @ G.T, lx.positive_semidefinite_tag),
        _sparse(G),
        _sparse(_deficient(D), lx.positive_semidefinite_tag),
    ),
    "sparse symmetric": (
        _sparse(H, lx.symmetric_tag),
        _sparse(G),
        _sparse(_deficient(H), lx.symmetric_tag),
    ),
}
# The extra is not everywhere.
_RSLAB = importlib.util.find_spec("rslab") is not None
each = pytest.mark.parametrize(
    "name", [name for name in tables.SOLVERS if _RSLAB or name != "SparseLDL"]
)


def test_every_solver_has_a_row():
    solvers = {
        name
        for name in lx.__all__
        if isinstance(thing := getattr(lx, name), type)
        and issubclass(thing, lx.AbstractLinearSolver)
    }
    assert solvers - {"AbstractLinearSolver"} | {"NormalCG"} == set(tables.SOLVERS)


def test_rows_of_the_dispatch():
    """Every row that the code dispatches on is printed."""
    for well_posed, rows in tables.table().items():
        printed = tables.dispatch_table(well_posed)
        assert all(f"| {row.because} | `{row.solver!r}` |" in printed for row in rows)


def _vector(operator):
    rows = np.arange(1.0, operator.out_size() + 1)
    if operator is BLOCKS or operator is GRID:
        pair = [jnp.asarray(rows[:4]), jnp.asarray(rows[4:])]
        return pair if operator is BLOCKS else tuple(pair)
    structure = operator.out_structure()
    return jnp.asarray(rows.reshape(structure.shape), structure.dtype)


def _flat(x):
    return np.concatenate(
        [np.ravel(leaf) for leaf in (x if isinstance(x, list | tuple) else [x])]
    )


@each
def test_needs(name):
    """What meets the need is solved; what does not is refused."""
    solver = tables.make(name)
    meets, fails, _ = CASES[tables.SOLVERS[name]["needs"]]
    b = _vector(meets)
    x = lx.linear_solve(meets, b, solver).value
    truth = np.linalg.lstsq(meets.as_matrix(), _flat(b), rcond=None)[0]
    np.testing.assert_allclose(_flat(x), truth, rtol=1e-7, atol=1e-7)
    if fails is not None:
        with pytest.raises(ValueError):
            lx.linear_solve(fails, _vector(fails), solver)


@each
def test_rank(name):
    """Who finds the rank gives the pseudoinverse solution of a singular operator; of
    the others a direct solver says that it is singular."""
    facts = tables.SOLVERS[name]
    *_, operator = CASES[facts["needs"]]
    if operator is None or facts["rank"] not in (True, False):
        return
    A, b = np.asarray(operator.as_matrix()), _vector(operator)
    solution = lx.linear_solve(operator, b, tables.make(name), throw=False)
    if facts["rank"]:
        truth = np.linalg.pinv(A, rcond=1e-10) @ _flat(b)
        assert solution.result == lx.RESULTS.successful
        np.testing.assert_allclose(_flat(solution.value), truth, rtol=1e-6, atol=1e-6)
    elif facts["kind"] == "direct":
        assert solution.result == lx.RESULTS.singular
