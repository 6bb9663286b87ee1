"""Copies and pickles of what solves return: inverses, solutions, and their states."""

import copy
import pickle

import jax
import jax.numpy as jnp
import lx_autodiff as lxa
import lx_operators as lxo
import lx_solvers as lxs
import numpy as np
import pytest
from lx_autodiff._partition import split

each_copy = pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)

M = jnp.array([[2.0, 1.0], [1.0, 3.0]])
MATRIX = lxo.MatrixLinearOperator(M, lxo.positive_semidefinite_tag)
TREE = lxo.PyTreeLinearOperator(
    {"a": {"a": M}}, {"a": jax.ShapeDtypeStruct((2,), jnp.float64)}
)
BLOCKS = lxo.BlockDiagonalLinearOperator((MATRIX, MATRIX))
AUTO = lxs.AutoLinearSolver(well_posed=True)
TIGHT = {"rtol": 1e-12, "atol": 0.0}

CASES = {
    "Cholesky, chosen": (MATRIX, AUTO),
    "LU": (MATRIX, lxs.LU()),
    "QR, damped": (MATRIX, lxs.QR(damp=0.5)),
    "SVD": (MATRIX, lxs.SVD()),
    "CG": (MATRIX, lxs.CG(**TIGHT)),
    "GMRES": (MATRIX, lxs.GMRES(**TIGHT)),
    "Normal": (MATRIX, lxs.Normal(lxs.CG(**TIGHT))),
    "Refined": (MATRIX, lxs.Refined(lxs.LU())),
    "pytree": (TREE, AUTO),
    "blocks": (BLOCKS, AUTO),
    "identity": (lxo.IdentityLinearOperator(MATRIX.in_structure()), AUTO),
}
each_case = pytest.mark.parametrize("operator, solver", CASES.values(), ids=CASES)


def vector_of(operator):
    return jax.tree.map(
        lambda s: 1 + jnp.arange(s.size, dtype=s.dtype).reshape(s.shape),
        operator.out_structure(),
    )


def assert_close(x, y):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-10), x, y)


@each_copy
@each_case
def test_inverse(copied, operator, solver):
    inverse, b = lxa.invert(operator, solver), vector_of(operator)
    again = copied(inverse)
    assert again.in_structure() == inverse.in_structure()
    for one, other in ((again, inverse), (again.T, inverse.T)):
        assert_close(one.mv(b), other.mv(b))
    # nothing is traced anew for it
    traces = []

    @jax.jit
    def product(inverse, b):
        traces.append(b)
        return inverse.mv(b)

    assert_close(product(inverse, b), product(again, b))
    assert len(traces) == 1


@each_copy
@each_case
def test_solution(copied, operator, solver):
    b = vector_of(operator)
    solution = lxa.linear_solve(operator, b, solver)
    again = copied(solution)
    assert again.status == "successful"
    assert_close(again.value, solution.value)
    further = lxa.linear_solve(operator, b, solver, state=again.state)
    assert_close(further.value, solution.value)


@each_copy
def test_static_half(copied):
    """Equal, and of equal hash, whatever the pytree is made of."""
    for tree in (MATRIX, TREE, lxs.QR(damp=0.5), {"a": (1, M, None, 2.0)}, BLOCKS):
        arrays, static = split(tree)
        again = copied(static)
        assert again == static and hash(again) == hash(static)
        assert jax.tree.structure(again.join(arrays)) == jax.tree.structure(tree)
