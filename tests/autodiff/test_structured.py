"""Derivatives of structured solves: against dense truth, and without a matrix."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import lx_autodiff as lxa
import lx_operators as lxo
import lx_solvers as lxs
import numpy as np
import pytest
from lx_autodiff.testing import ProblemClass, check_derivatives

LAWS = ("value", "jvp", "vjp", "vjp of jvp", "vmap of vjp")


def _draw(*shape: int) -> Callable:
    def draw(rng, dtype):
        x = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
        return jnp.asarray(x if jnp.issubdtype(dtype, complex) else x.real, dtype)

    return draw


def _problem(name: str, parameters: Callable, operator: Callable) -> ProblemClass:
    """The truth: the inverse of the matrix by columns of products."""

    def matrix(p):
        op = operator(p)
        size, structure = op.in_size(), op.in_structure()
        units = jnp.eye(size, dtype=jax.tree.leaves(structure)[0].dtype)
        unraveled = jax.vmap(lambda e: lxo.internal.unravel(e, structure))(units)
        columns = jax.vmap(lambda x: lxo.internal.ravel(op.mv(x)))(unraveled)
        return columns.T

    return ProblemClass(
        name, parameters, operator, matrix, lambda p: jnp.linalg.inv(matrix(p))
    )


BANDED = _problem(
    "banded", _draw(4, 5), lambda a: lxo.BandedLinearOperator(a, lower=2, upper=1)
)


@pytest.mark.parametrize(
    "problem, solver", [(BANDED, lxs.Banded())], ids=lambda x: getattr(x, "name", None)
)
def test_derivatives(problem, solver):
    check_derivatives(solver, problem, "complex128", laws=LAWS)


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
