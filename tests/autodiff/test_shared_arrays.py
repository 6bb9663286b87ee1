"""The state of an eager solve holds the arrays of the operator themselves, not copies,
and carries no tangents."""

import jax
import jax.numpy as jnp
import lx_autodiff as lxa
import lx_operators as lxo
import lx_solvers as lxs
import numpy as np
import pytest

M = jnp.array([[2.0, 0.0, 0.0], [1.0, 3.0, 0.0], [0.5, -1.0, 1.0]])
B = jnp.array([1.0, -2.0, 3.0])
TIGHT = {"rtol": 1e-10, "atol": 0.0}
CASES = {
    "Triangular": (M, lxo.lower_triangular_tag, lxs.Triangular()),
    "CG": (M @ M.T, lxo.positive_semidefinite_tag, lxs.CG(**TIGHT)),
    "GMRES": (M, (), lxs.GMRES(**TIGHT)),
    "LSMR": (M, (), lxs.LSMR(**TIGHT)),
    "Normal(CG)": (M, (), lxs.Normal(lxs.CG(**TIGHT))),
}
each_case = pytest.mark.parametrize("matrix, tags, solver", CASES.values(), ids=CASES)


def solve(matrix, tags, solver, **options):
    operator = lxo.MatrixLinearOperator(matrix, tags)
    return lxa.linear_solve(operator, B, solver, **options)


@each_case
def test_nothing_is_copied(matrix, tags, solver):
    """Neither of the operator nor of a state that is given."""
    state = solve(matrix, tags, solver).state
    assert any(leaf is matrix for leaf in jax.tree.leaves(state))
    again = solve(matrix, tags, solver, state=state).state
    pairs = zip(jax.tree.leaves(again), jax.tree.leaves(state), strict=True)
    assert all(new is old for new, old in pairs)


@each_case
@pytest.mark.parametrize("throw", [True, False])
def test_no_tangents(matrix, tags, solver, throw):
    def leaves(matrix):
        state = solve(matrix, tags, solver, throw=throw).state
        return [
            x for x in jax.tree.leaves(state) if jnp.isdtype(x.dtype, "real floating")
        ]

    values, tangents = jax.jvp(leaves, (matrix,), (jnp.ones_like(matrix),))
    assert any(x.shape == matrix.shape for x in values)
    for tangent in tangents:
        np.testing.assert_array_equal(tangent, jnp.zeros_like(tangent))


@each_case
def test_of_a_batch(matrix, tags, solver):
    """Each member's state serves for that member."""
    scales = jnp.array([1.0, 2.0, 3.0])

    def first(scale):
        return solve(scale * matrix, tags, solver).state

    def second(scale, state):
        return solve(scale * matrix, tags, solver, state=state).value

    x = jax.vmap(second)(scales, jax.vmap(first)(scales))
    expected = np.linalg.solve(matrix, B) / np.asarray(scales)[:, None]
    np.testing.assert_allclose(x, expected, rtol=1e-7)


@each_case
def test_of_vectors(matrix, tags, solver):
    """The operator is the same for all of a batch of vectors."""
    operator = lxo.MatrixLinearOperator(matrix, tags)
    vectors = jnp.stack([B, 2 * B])
    solution = jax.vmap(lambda b: lxa.linear_solve(operator, b, solver))(vectors)
    x = np.linalg.solve(matrix, vectors.T).T
    np.testing.assert_allclose(solution.value, x, rtol=1e-7)
