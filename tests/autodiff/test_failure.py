"""What the error of a failed solve says."""

import equinox as eqx
import jax.numpy as jnp
import lx_autodiff as lxa
import lx_operators as lxo
import lx_solvers as lxs
import numpy as np
import pytest


@pytest.mark.parametrize("solver", [lxs.LU(), lxs.QR()])
def test_error_names_the_figure(solver):
    A = lxo.MatrixLinearOperator(jnp.asarray(np.outer(np.arange(1.0, 4), [1.0, 3, 7])))
    with pytest.raises(eqx.EquinoxRuntimeError, match="reciprocal_condition = "):
        lxa.linear_solve(A, jnp.ones(3), solver)


def test_false_tag_of_an_iterative_solve():
    """It may be what keeps the solver from converging."""
    A = lxo.MatrixLinearOperator(jnp.array([[4.0, 1.0], [-3.0, 3.0]]))
    solver = lxs.CG(rtol=1e-8)
    for tag, told in ((lxo.positive_semidefinite_tag, True), (None, False)):
        tagged = A if tag is None else lxo.TaggedLinearOperator(A, tag)
        solver = lxs.BiCGStab(rtol=1e-15, max_steps=1) if tag is None else solver
        with pytest.raises(eqx.EquinoxRuntimeError) as info:
            lxa.linear_solve(tagged, jnp.array([5.0, 4.0]), solver)
        assert ("check whether its tags are true" in str(info.value)) is told
