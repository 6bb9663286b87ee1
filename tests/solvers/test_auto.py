"""`AutoLinearSolver`: which solver for which operator, and why."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lx_operators as lxo
import lx_solvers as lxs
import numpy as np
import pytest
from lx_operators.internal import check_matrix
from lx_solvers._auto import table

SQUARE = jnp.array([[4.0, 1.0, 0.0], [1.0, 3.0, 1.0], [0.0, 1.0, 2.0]])


def matrix(*tags):
    return lxo.MatrixLinearOperator(SQUARE, tags)


DIAGONAL = lxo.DiagonalLinearOperator(jnp.ones(3))
BANDS = lxo.TridiagonalLinearOperator(jnp.ones(3), jnp.ones(2), jnp.ones(2))
TALL = lxo.MatrixLinearOperator(jnp.ones((3, 2)))

SQUARE_CASES = [
    (BANDS, lxs.Tridiagonal()),
    (matrix(lxo.tridiagonal_tag, lxo.positive_semidefinite_tag), lxs.Tridiagonal()),
    (matrix(lxo.lower_triangular_tag), lxs.Triangular()),
    (matrix(lxo.upper_triangular_tag), lxs.Triangular()),
    (matrix(lxo.positive_semidefinite_tag), lxs.Cholesky()),
    (matrix(lxo.negative_semidefinite_tag), lxs.Cholesky()),
    (TALL.T @ TALL, lxs.Cholesky()),
    (matrix(lxo.symmetric_tag), lxs.LU()),
    (matrix(), lxs.LU()),
]
CASES = [
    *((True, operator, solver) for operator, solver in SQUARE_CASES),
    *((None, operator, solver) for operator, solver in SQUARE_CASES),
    (True, DIAGONAL, lxs.Diagonal(well_posed=True)),
    (None, DIAGONAL, lxs.Diagonal(well_posed=False)),
    (False, DIAGONAL, lxs.Diagonal(well_posed=False)),
    (None, TALL, lxs.QR()),
    (None, TALL.T, lxs.QR()),
    (False, TALL, lxs.PivotedQR()),
    (False, matrix(), lxs.PivotedQR()),
    (False, BANDS, lxs.PivotedQR()),
]


@pytest.mark.parametrize("well_posed, operator, solver", CASES)
def test_choice(well_posed, operator, solver):
    auto = lxs.AutoLinearSolver(well_posed=well_posed)
    assert auto.select_solver(operator) == solver
    assert f"-> {solver!r}" in auto.explain(operator)


def test_explanation_names_what_was_asked_before():
    text = lxs.AutoLinearSolver(well_posed=True).explain(matrix())
    rows = [line for line in text.splitlines() if "?" in line]
    assert len(rows) == len(table()[True]) and rows[-1].startswith("->")
    assert all("not known" in row for row in rows[:-1])


def test_not_square():
    with pytest.raises(ValueError, match="3 by 2.*well_posed=None"):
        lxs.AutoLinearSolver(well_posed=True).select_solver(TALL)


def test_wrong_argument():
    with pytest.raises(ValueError, match="well_posed"):
        lxs.AutoLinearSolver(well_posed="yes")


@pytest.mark.parametrize("well_posed", [True, False, None])
def test_solves_and_turns_its_state(well_posed):
    """The value, and the laws of transposed and conjugated states, by NumPy."""
    dense = np.asarray(SQUARE) + 1j * np.eye(3)
    operator, b = (
        lxo.MatrixLinearOperator(jnp.asarray(dense)),
        jnp.arange(3, dtype=complex) + 1j,
    )
    solver = lxs.AutoLinearSolver(well_posed=well_posed)
    state = jax.jit(solver.init)(operator, {})
    for turn, truth in (
        (lambda s: s, dense),
        (lambda s: solver.transpose(s, {})[0], dense.T),
        (lambda s: solver.conj(s, {})[0], dense.conj()),
    ):
        value, result, _ = solver.compute(turn(state), b, {})
        assert result == lxs.RESULTS.successful
        np.testing.assert_allclose(value, np.linalg.solve(truth, b), rtol=1e-12)


@pytest.mark.parametrize(
    "well_posed, full", [(True, True), (None, True), (False, False)]
)
def test_full_rank(well_posed, full):
    """As published: what it states before it has seen an operator."""
    assert lxs.AutoLinearSolver(well_posed=well_posed).assume_full_rank() is full


def test_foreign_state():
    with pytest.raises(ValueError, match="AutoLinearSolver.init"):
        state = lxs.LU().init(matrix(), {})
        lxs.AutoLinearSolver(well_posed=True).compute(state, jnp.ones(3), {})


# What would be formed unasked.

HUGE = 300_000
STRUCTURE = jax.ShapeDtypeStruct((HUGE,), jnp.float32)


def matrix_free(*tags):
    return lxo.FunctionLinearOperator(lambda x: 2 * x, STRUCTURE, tags)


def shapes_of_state(operator, well_posed=True, **limit):
    """Nothing is allocated."""
    solver = lxs.AutoLinearSolver(well_posed=well_posed, **limit)
    return jax.eval_shape(
        lambda: jax.tree.leaves(eqx.filter(solver.init(operator, {}), eqx.is_array))
    )


@pytest.mark.parametrize(
    "tags, fits",
    [
        ((), "GMRES"),
        ((lxo.symmetric_tag,), "MINRES"),
        ((lxo.positive_semidefinite_tag,), "CG"),
        ((lxo.negative_semidefinite_tag,), "CG"),
    ],
)
def test_too_large_to_form(tags, fits):
    """300 000² numbers of 4 bytes are 335 GiB."""
    with pytest.raises(ValueError, match=f"335 GiB.*Use `{fits}\\(.*max_bytes"):
        shapes_of_state(matrix_free(*tags))


@pytest.mark.parametrize("well_posed", [None, False])
def test_too_large_to_form_and_not_square(well_posed):
    tall = lxo.FunctionLinearOperator(lambda x: jnp.tile(x, 2), STRUCTURE)
    with pytest.raises(ValueError, match="600000 by 300000.*671 GiB.*`LSMR"):
        shapes_of_state(tall, well_posed)


def test_too_large_of_any_rank():
    with pytest.raises(ValueError, match="Use `LSMR.*any rank"):
        shapes_of_state(matrix_free(), False)


def test_too_large_inside_a_composite():
    """A factor, a block, a Schur complement: what is formed, not the whole, counts."""
    small = lxo.MatrixLinearOperator(jnp.eye(2, dtype=jnp.float32))
    with pytest.raises(ValueError, match="335 GiB"):
        shapes_of_state(lxo.KroneckerLinearOperator(small, matrix_free()))
    with pytest.raises(ValueError, match="335 GiB"):
        shapes_of_state(lxo.BlockDiagonalLinearOperator((small, matrix_free())))
    wide = lxo.DiagonalLinearOperator(jnp.ones(HUGE, jnp.float32))
    saddle = lxo.BlockLinearOperator([[wide, matrix_free()], [matrix_free(), None]])
    with pytest.raises(ValueError, match="GiB"):
        shapes_of_state(saddle)


def test_large_but_structured_or_stored():
    """Diagonals and Fourier coefficients take little; what is stored is there."""
    ones = jnp.ones(HUGE, jnp.float32)
    nonsingular = lxo.TaggedLinearOperator(
        lxo.DiagonalLinearOperator(ones), lxo.nonsingular_tag
    )
    for operator in (
        matrix_free(lxo.diagonal_tag),
        matrix_free(lxo.tridiagonal_tag),
        lxo.CirculantLinearOperator(ones),
        lxo.LowRankUpdateLinearOperator(nonsingular, ones[:, None]),
    ):
        leaves = shapes_of_state(operator)
        assert sum(x.size for x in leaves) < 100 * HUGE
    stored = lxo.MatrixLinearOperator(jnp.eye(30))
    closure = lxo.FunctionLinearOperator(
        stored.matrix.__matmul__, stored.in_structure()
    )
    for operator in (stored, stored.T @ stored, stored + stored, closure):
        assert shapes_of_state(operator, max_bytes=100)


def test_limit_can_be_set():
    operator = lxo.FunctionLinearOperator(lambda x: 2 * x, jnp.zeros(100))
    bytes_of_matrix = 100 * 100 * 8
    with pytest.raises(ValueError, match="max_bytes"):
        shapes_of_state(operator, max_bytes=bytes_of_matrix - 1)
    assert shapes_of_state(operator, max_bytes=2 * bytes_of_matrix)
    assert shapes_of_state(matrix_free(), max_bytes=None)
    with pytest.raises(ValueError, match="`max_bytes` must be"):
        lxs.AutoLinearSolver(True, max_bytes="4 GiB")


def test_a_named_solver_is_asked_for():
    state = jax.eval_shape(lambda: lxs.LU().init(matrix_free(), {}))
    assert (HUGE, HUGE) in {x.shape for x in jax.tree.leaves(state)}


def test_limit_reaches_the_solvers_of_parts():
    solver = lxs.AutoLinearSolver(True, max_bytes=10)
    block = lxo.BlockDiagonalLinearOperator((matrix(), matrix()))
    assert solver.select_solver(block) == lxs.BlockDiagonal(solver)


def test_check_matrix():
    """For functions that need a matrix without a solver."""
    small = lxo.FunctionLinearOperator(lambda x: 2 * x, jnp.zeros(10))
    check_matrix(small, "`f`", "Do g.")
    check_matrix(small, "`f`", "Do g.", max_bytes=None)
    check_matrix(small, "`f`", "Do g.", 799, held=jnp.zeros((10, 10)))
    check_matrix(small, "`f`", "Do g.", 800)
    with pytest.raises(ValueError, match="`f` would form the 10 by 10.*Do g."):
        check_matrix(small, "`f`", "Do g.", 799)
