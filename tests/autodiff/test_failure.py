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
