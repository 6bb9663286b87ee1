"""Problems, and how many steps a solver takes with a preconditioner."""

from importlib.util import find_spec

import equinox as eqx
import jax.numpy as jnp
import lx_operators as lo
import lx_solvers as lxs
import numpy as np
import pytest
import scipy.sparse

PSD = lo.positive_semidefinite_tag
N = 12
needs_pyamg = pytest.mark.skipif(find_spec("pyamg") is None, reason="needs pyamg")
succeeded = lxs.RESULTS.successful


def poisson(k):
    """The Laplacian of a square of k by k points."""
    T = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(k, k))
    eye = scipy.sparse.eye_array(k)
    return scipy.sparse.csr_array(scipy.sparse.kron(eye, T) + scipy.sparse.kron(T, eye))


def steps(operator, recipe, solver=lxs.CG, b=None):
    """To a residual of 1e-8, checked."""
    b = jnp.ones(operator.in_size()) if b is None else b
    solver = solver(1e-8, 0.0, criterion="two_norm", preconditioner=recipe)
    x, result, stats = solved(solver.setup(operator), operator, b)
    assert result == succeeded
    assert np.linalg.norm(b - operator.mv(x)) <= 1.1e-8 * np.linalg.norm(b)
    return int(stats["num_steps"])


@eqx.filter_jit
def solved(solver, operator, b):
    return solver.compute(solver.init(operator, {}), b, {})


def matrix_of(recipe, operator):
    recipe = recipe.setup(operator)
    matrix = eqx.filter_jit(lambda recipe, A: recipe.as_operator(A).as_matrix())
    return np.asarray(matrix(recipe, operator))
