"""Derivatives of structured solves: against dense truth, and without a matrix."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import lx_autodiff as lxa
import lx_operators as lxo
import lx_solvers as lxs
import numpy as np
import pytest
from lx_autodiff.testing import LAWS
from lx_operators.internal import ravel, unravel

CHECKED = ("value", "jvp", "vjp", "vjp of jvp", "vmap of vjp")


def _stack(matrices):
    return lxo.StackedLinearOperator(
        eqx.filter_vmap(lxo.MatrixLinearOperator)(matrices)
    )


def _side_by_side(p):
    return lxo.BlockDiagonalLinearOperator(
        {"a": lxo.MatrixLinearOperator(p[0]), "b": _stack(p[1])}
    )


def _saddle(A, B):
    return lxo.BlockLinearOperator([[A, B.T], [B, None]])


AUTO = lxs.AutoLinearSolver(well_posed=True)

# name: shapes of the parameters, operator, solver
CASES = {
    "banded": (
        (4, 5),
        lambda a: lxo.BandedLinearOperator(a, lower=2, upper=1),
        lxs.Banded(),
    ),
    "block diagonal": (((2, 2), (2, 2, 2)), _side_by_side, AUTO),
    "block diagonal, any rank": (
        ((3, 2), (2, 2, 3)),
        _side_by_side,
        lxs.AutoLinearSolver(well_posed=False),
    ),
    "block tridiagonal": (
        ((3, 2, 2), (2, 2, 2), (2, 2, 2)),
        lambda p: lxo.BlockTridiagonalLinearOperator(*p),
        lxs.BlockTridiagonal(),
    ),
    "saddle": (
        ((2, 2), (2, 2)),
        lambda p: _saddle(*map(lxo.MatrixLinearOperator, p)),
        lxs.BlockElimination(lxs.LU()),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_derivatives(name):
    """The laws of `lx_autodiff.testing`, for operators between any pytrees; the truth
    is the pseudoinverse of the matrix, formed by products."""
    shapes, build, solver = CASES[name]
    rng = np.random.default_rng(0)

    def draw(*shape):
        return jnp.asarray(rng.standard_normal((2, *shape)).T.dot([1, 1j]).T)

    def like(tree):
        return jtu.tree_map(lambda x: draw(*x.shape), tree)

    is_shape = lambda s: isinstance(s[0], int)  # noqa: E731
    parameters = jtu.tree_map(lambda s: draw(*s), shapes, is_leaf=is_shape)
    operator = build(parameters)

    def solve(p, b):
        op = build(p)
        return ravel(lxa.linear_solve(op, unravel(b, op.out_structure()), solver).value)

    def truth(p, b):
        op = build(p)
        units = jnp.eye(op.in_size(), dtype=b.dtype)
        columns = jax.vmap(lambda e: ravel(op.mv(unravel(e, op.in_structure()))))(units)
        return jnp.linalg.pinv(columns.T) @ b

    x = (parameters, draw(operator.out_size()))
    directions = like(x), draw(operator.in_size())

    def laws(fn):
        return {law: LAWS[law](fn, x, *directions) for law in CHECKED}

    ours, theirs = jax.jit(lambda: laws(solve))(), jax.jit(lambda: laws(truth))()
    for law in CHECKED:
        for got, wanted in zip(*map(jtu.tree_leaves, (ours[law], theirs[law]))):
            scale = abs(wanted).max()
            np.testing.assert_allclose(got, wanted, atol=1e-8 * scale, err_msg=law)


def test_banded_gradient_has_no_matrix():
    """10⁵ unknowns: a matrix would take 80 GB."""
    n = 100_000

    @jax.value_and_grad
    def energy(diagonals):
        operator = lxo.BandedLinearOperator(diagonals, 1, 2)
        return jnp.sum(lxa.linear_solve(operator, jnp.ones(n)).value)

    # A = 8 I, in whatever direction: d(1ᵀA⁻¹1) = -1ᵀA⁻¹ dA A⁻¹1
    value, gradient = jax.jit(energy)(jnp.zeros((4, n)).at[2].set(8.0))
    np.testing.assert_allclose(value, n / 8)
    np.testing.assert_allclose(gradient[:, 2:-2], -1 / 64)
