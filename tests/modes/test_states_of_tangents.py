"""Every solver makes a state of an operator that carries tangents, as it does within
`jax.grad` of a user's function, which reuses the state for several vectors. Traced
only: a rule of differentiation that is missing says so then."""

import jax
import jax.numpy as jnp
import pytest

from tests.modes.members import SOLVERS
from tests.modes.test_export import matrix


@pytest.mark.parametrize("name", SOLVERS)
def test_state_of_tangents(name):
    solver, make = SOLVERS[name]

    def arrays(A):
        operator = make(A)
        state = solver.setup(operator).init(operator, {})
        return [
            x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.inexact)
        ]

    def with_tangents(A, dA):
        return jax.jvp(arrays, (A,), (dA,))

    A = jnp.asarray(matrix(4))
    values, tangents = jax.eval_shape(with_tangents, A, A)
    assert len(values) == len(tangents)
