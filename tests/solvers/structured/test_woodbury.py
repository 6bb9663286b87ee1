"""Woodbury, and its guard; permutations; zero."""

import jax
import jax.numpy as jnp
import lx_operators as lxo
import lx_solvers as lxs
import numpy as np
import pytest
from lx_solvers.internal import slogdet_of

AUTO = lxs.AutoLinearSolver(well_posed=True)
WOODBURY = lxs.Woodbury(AUTO)


def general(draw, dtype):
    A = draw(dtype, 5, 5) + 4 * jnp.eye(5, dtype=dtype)
    return lxo.LowRankUpdateLinearOperator(
        lxo.MatrixLinearOperator(A, lxo.nonsingular_tag),
        draw(dtype, 5, 2),
        draw(dtype, 2, 1),
        draw(dtype, 5, 1),
    )


def definite(draw, dtype):
    """Between pytrees, with C singular."""
    d = {"a": jnp.arange(1, 4).astype(dtype), "b": jnp.asarray(2, dtype)}
    a = lxo.DiagonalLinearOperator(d)
    a = lxo.TaggedLinearOperator(
        a, {lxo.positive_semidefinite_tag, lxo.nonsingular_tag}
    )
    flat = jax.ShapeDtypeStruct((4,), dtype)
    U = lxo.MatrixLinearOperator(draw(dtype, 4, 2))
    U = lxo.IdentityLinearOperator(flat, a.in_structure()) @ U
    C = lxo.DiagonalLinearOperator(jnp.array([1, 0], dtype))
    return lxo.LowRankUpdateLinearOperator(a, U, C)


@pytest.mark.parametrize("make", [general, definite])
def test_laws(obeys_laws, draw, make):
    operator = make(draw, np.dtype("complex128"))
    assert AUTO.select_solver(operator) == WOODBURY
    obeys_laws(WOODBURY, operator)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_slogdet(draw, dtype):
    operator = general(draw, np.dtype(dtype))
    sign, log = jax.jit(lambda a: slogdet_of(WOODBURY.init(a, {})))(operator)
    wanted = np.linalg.slogdet(np.asarray(operator.as_matrix()))
    np.testing.assert_allclose(sign, wanted[0], rtol=1e-12)
    np.testing.assert_allclose(log, wanted[1], rtol=1e-12)


def test_singular_parts_are_told(outcome):
    d = lxo.DiagonalLinearOperator(jnp.array([0.0, 1.0]))
    U = jnp.array([[1.0], [0.0]])
    fine = lxo.LowRankUpdateLinearOperator(d, U)  # nonsingular, although A is singular
    assert outcome(WOODBURY, fine)[1] != "successful"
    assert outcome(AUTO, fine)[1] == "successful"  # LU: nothing promises that of A
    null = lxo.LowRankUpdateLinearOperator(
        lxo.DiagonalLinearOperator(jnp.ones(2)), U, -U[:1]
    )
    assert outcome(WOODBURY, null)[1] == "singular"
    nan = lxo.LowRankUpdateLinearOperator(d, U * jnp.nan)
    assert outcome(WOODBURY, nan)[1] != "successful"


def test_cancellation_is_told(solve):
    """A ever nearer to singular: what is called successful has a small residual, and
    refinement keeps it accurate for long."""
    rng = np.random.default_rng(1)
    Q, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    b, accurate = rng.normal(size=6), 0
    for tiny in 10.0 ** -np.arange(0, 16):
        A = Q @ np.diag([1, 1, 1, 1, 1, tiny]) @ Q.T
        operator = lxo.LowRankUpdateLinearOperator(
            lxo.MatrixLinearOperator(jnp.asarray(A)), jnp.asarray(Q[:, 5:])
        )
        x, result, _ = solve(WOODBURY, operator, jnp.asarray(b))
        wanted = np.linalg.solve(A + Q[:, 5:] @ Q[:, 5:].T, b)
        error = abs(x - wanted).max()
        if result == lxs.RESULTS.successful:
            assert error < 1e-6
            accurate += int(error < 1e-13)
    assert accurate >= 8


def test_update_of_unknown_is_not_taken(draw):
    """Its A may be singular where the sum is not."""
    d = lxo.DiagonalLinearOperator(jnp.ones(3))
    operator = lxo.LowRankUpdateLinearOperator(d, jnp.ones((3, 1)))
    assert AUTO.select_solver(operator) == lxs.LU()
    with pytest.raises(ValueError, match="LowRankUpdate"):
        WOODBURY.init(d, {})
    tall = lxo.MatrixLinearOperator(jnp.ones((3, 2)))
    operator = lxo.LowRankUpdateLinearOperator(
        tall, jnp.ones((3, 1)), None, jnp.ones((2, 1))
    )
    with pytest.raises(ValueError, match="square"):
        WOODBURY.init(operator, {})


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_permutation(obeys_laws, dtype):
    structure = {"a": jnp.zeros((2, 1), dtype), "b": jnp.zeros(2, dtype)}
    operator = lxo.PermutationLinearOperator([1, 2, 0, 3], structure)
    for well_posed in (True, False, None):
        auto = lxs.AutoLinearSolver(well_posed=well_posed)
        assert auto.select_solver(operator) == lxs.Permutation()
    obeys_laws(lxs.Permutation(), operator)


def test_sign_of_permutations():
    rng = np.random.default_rng(0)
    sign = jax.jit(
        lambda p: slogdet_of(
            lxs.Permutation().init(lxo.PermutationLinearOperator(p), {})
        )[0]
    )
    for _ in range(8):
        p = rng.permutation(9)
        assert sign(p) == np.linalg.det(np.eye(9)[p]).round()
    with pytest.raises(ValueError, match="PermutationLinearOperator"):
        lxs.Permutation().init(lxo.MatrixLinearOperator(jnp.eye(2)), {})


@pytest.mark.parametrize("m, n", [(3, 3), (2, 3)])
def test_zero(outcome, m, n):
    """Singular for who asks for a solution, zero for who takes the pseudoinverse's."""
    structures = (jax.ShapeDtypeStruct((k,), float) for k in (n, m))
    zero = lxo.ZeroLinearOperator(*structures)
    x, result = outcome(lxs.AutoLinearSolver(well_posed=False), zero)
    assert result == "successful"
    np.testing.assert_array_equal(x, np.zeros(n))
    if m == n:
        assert outcome(AUTO, zero)[1] == "singular"
    else:
        full = lxs.AutoLinearSolver(well_posed=None)
        assert outcome(full, zero)[1] == "singular"
