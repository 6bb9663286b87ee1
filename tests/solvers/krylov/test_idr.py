"""IDR(s)."""

import jax.numpy as jnp
import lx_operators as lo
import numpy as np
import pytest
from lx_solvers.krylov._bases import gram, shadows
from lx_solvers.krylov._spaces import spaces
from lx_solvers.krylov.bicgstab import BiCGStab
from lx_solvers.krylov.gmres import GMRES
from lx_solvers.krylov.idr import IDR

pytestmark = pytest.mark.xdist_group("IDR itself")


def skew(m, scale=0.7):
    """Central differences in two dimensions: a skew-symmetric matrix."""
    c = np.eye(m, k=1) - np.eye(m, k=-1)
    return np.kron(c, np.eye(m)) + scale * np.kron(np.eye(m), c)


@pytest.mark.parametrize("s", [1, 2, 4])
def test_ends_by_its_theorem(draw, run, s):
    """After n + n / s products, in exact arithmetic."""
    n = 12
    a, b = 3 * np.eye(n) + draw(np.float64, n, n), draw(np.float64, n)
    end = run(IDR(1e-7, 0.0, s=s), a, b)
    assert end.result == "successful"
    assert end.steps <= n + n // s
    np.testing.assert_allclose(end.x, np.linalg.solve(a, b), atol=1e-5)


def test_residuals_are_in_the_spaces(draw, run):
    """After a cycle r = (I - ω A) v, with v ⟂ P: so it is after the first."""
    n, s = 12, 3
    a, b = 3 * np.eye(n) + draw(np.float64, n, n), draw(np.float64, n)
    P = np.asarray(shadows(s, spaces(lo.IdentityLinearOperator(jnp.ones(n)))[0]))
    np.testing.assert_allclose(P @ P.T, np.eye(s), atol=1e-14)
    r = b - a @ run(IDR(0.0, 0.0, s=s, max_steps=s), a, b).x
    np.testing.assert_allclose(P @ r, 0, atol=1e-12 * np.linalg.norm(r))


def test_shadows_of_several_axes():
    X = spaces(lo.IdentityLinearOperator(jnp.ones((3, 4), complex)))[0]
    np.testing.assert_allclose(gram(shadows(5, X)), np.eye(5), atol=1e-14)


def test_skew_symmetric(draw, run, residual):
    """Imaginary eigenvalues, on which BiCGStab breaks down and restarted GMRES does not
    end in as many products."""
    a = skew(10)
    b = a @ draw(np.float64, 100)
    x, result, steps, _ = run(IDR(1e-8, 0.0, s=8), a, b)
    assert result == "successful"
    assert residual(a, x, b) <= 1e-8
    for other in (BiCGStab(1e-8, 0.0), GMRES(1e-8, 0.0)):
        end = run(other, a, b)
        assert end.result != "successful" or end.steps > 2 * steps


def test_demands():
    with pytest.raises(ValueError, match="`s` of `IDR`"):
        IDR(1e-6, 1e-6, s=0)
