"""What every direct solver says to input that it cannot use, and half precision."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from lx_operators import (
    MatrixLinearOperator,
    diagonal_tag,
    lower_triangular_tag,
    positive_semidefinite_tag,
    tridiagonal_tag,
)
from lx_solvers import (
    LU,
    QR,
    RESULTS,
    SVD,
    Cholesky,
    Diagonal,
    Eigh,
    PivotedQR,
    Refined,
    Triangular,
    Tridiagonal,
)

SOLVERS = {
    "Cholesky": (Cholesky(), positive_semidefinite_tag),
    "Diagonal": (Diagonal(), diagonal_tag),
    "Eigh": (Eigh(), positive_semidefinite_tag),
    "LU": (LU(), ()),
    "PivotedQR": (PivotedQR(), ()),
    "QR": (QR(), ()),
    "Refined": (Refined(LU()), ()),
    "SVD": (SVD(), ()),
    "Triangular": (Triangular(), lower_triangular_tag),
    "Tridiagonal": (Tridiagonal(), tridiagonal_tag),
}
each_solver = pytest.mark.parametrize("name", SOLVERS)


@eqx.filter_jit
def solve(solver, operator, vector):
    return solver.compute(solver.init(operator, {}), vector, {})


@each_solver
def test_foreign_state_is_an_error(name):
    solver, _ = SOLVERS[name]
    with pytest.raises(ValueError, match=f"{name}.init"):
        solver.compute(jnp.ones(2), jnp.ones(2), {})


@each_solver
def test_unknown_option_is_a_warning(name):
    solver, tags = SOLVERS[name]
    operator = MatrixLinearOperator(jnp.eye(2), tags)
    with pytest.warns(UserWarning, match="ignores the option 'precondition'"):
        solver.init(operator, {"precondition": 1})


@each_solver
@pytest.mark.parametrize("half", [jnp.float16, jnp.bfloat16])
def test_half_precision(name, half):
    """Computed in float32, and cast back: every digit is right."""
    solver, tags = SOLVERS[name]
    operator = MatrixLinearOperator(jnp.diag(jnp.asarray([4.0, 3.0], half)), tags)
    x, result, _ = solve(solver, operator, jnp.asarray([6.0, 9.0], half))
    assert result == RESULTS.successful and x.dtype == half
    np.testing.assert_array_equal(x.astype(np.float32), [1.5, 3.0])


@pytest.mark.parametrize("name", ["Cholesky", "Eigh"])
def test_the_upper_triangle_is_not_read(name):
    A = np.array([[4.0, 1.0], [1.0, 3.0]])
    spoiled = A.copy()
    spoiled[0, 1] = np.nan
    solver, tags = SOLVERS[name]
    x, result, _ = solve(solver, MatrixLinearOperator(spoiled, tags), np.ones(2))
    assert result == RESULTS.successful
    np.testing.assert_allclose(x, np.linalg.solve(A, np.ones(2)), rtol=1e-14)
