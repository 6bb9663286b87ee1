"""BiCGStab."""

import jax
import jax.numpy as jnp
import lx_operators as lo
import numpy as np
import pytest
from lx_solvers import RESULTS
from lx_solvers.krylov.bicgstab import BiCGStab

from .conftest import N
from .counting import traced_solve

pytestmark = pytest.mark.xdist_group("BiCGStab itself")


def textbook(a, b, steps):
    """van der Vorst's algorithm, `steps` full steps."""
    x, r = np.zeros_like(b), b.copy()
    shadow, ρ, α, ω = r.copy(), 1, 1, 1
    p = v = np.zeros_like(b)
    for _ in range(steps):
        ρ, old = np.vdot(shadow, r), ρ
        p = r + (ρ / old) * (α / ω) * (p - ω * v)
        v = a @ p
        α = ρ / np.vdot(shadow, v)
        s = r - α * v
        t = a @ s
        ω = np.vdot(t, s) / np.vdot(t, t)
        x = x + α * p + ω * s
        r = s - ω * t
    return x


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_textbook(draw, run, dtype):
    dtype = np.dtype(dtype)
    a, b = 4 * np.eye(N) + draw(dtype, N, N), draw(dtype, N)
    for steps in (1, 2, 5):
        x = run(BiCGStab(0.0, 0.0, max_steps=2 * steps), a, b).x
        np.testing.assert_allclose(x, textbook(a, b, steps), rtol=1e-8)


def test_easy_systems(rng):
    """Fifty easy 10×10 systems in float32: all are solved."""
    n, batch = 10, 50
    a = 3 * np.eye(n) + 0.5 * rng.normal(size=(batch, n, n))
    b = rng.normal(size=(batch, n))
    a, b = a.astype(np.float32), b.astype(np.float32)

    def solve(matrix, vector):
        solver = BiCGStab(1e-5, 1e-5)
        state = solver.init(lo.MatrixLinearOperator(matrix), {})
        x, result, _ = solver.compute(state, vector, {})
        return x, result == RESULTS.successful

    x, good = jax.jit(jax.vmap(solve))(jnp.asarray(a), jnp.asarray(b))
    assert good.all()
    exact = np.linalg.solve(a.astype(float), b.astype(float)[..., None])[..., 0]
    np.testing.assert_allclose(x, exact, atol=1e-3)


def test_half_a_step(run):
    """The iteration may end after an odd number of products."""
    a, b = 2 * np.eye(N), np.arange(1.0, N + 1)
    np.testing.assert_allclose(run(BiCGStab(0.0, 0.0, max_steps=1), a, b).x, b / 2)
    x, result, steps, _ = run(BiCGStab(1e-10, 0.0), a, b)
    assert result == "successful"
    assert steps <= 2  # the second to see that nothing moves any more
    np.testing.assert_allclose(x, b / 2)


def test_skew_is_a_breakdown(run, draw):
    """⟨x, A x⟩ = 0: nothing to divide by, and no false success."""
    a, solver = draw(np.float64, N, N), BiCGStab(1e-8, 0.0)
    result = run(solver, a - a.T, draw(np.float64, N)).result
    assert result in ("breakdown", "max_steps_reached")
    assert run(solver, np.zeros((N, N)), np.ones(N)).result == "breakdown"


def test_not_square():
    with pytest.raises(ValueError, match="square"):
        BiCGStab(1e-6, 1e-6).init(lo.MatrixLinearOperator(jnp.ones((2, 3))), {})
    assert BiCGStab(1e-6, 1e-6).assume_full_rank()


@pytest.mark.parametrize("ell", [2, 4])
def test_minimises_by_degree(draw, run, ell):
    """After a cycle, the residual is the least of its polynomials: r ⟂ A r₀, …, of what
    the biconjugate half left, so r ⟂ what it was lessened by."""
    a, b = 4 * np.eye(N) + draw(np.complex128, N, N), draw(np.complex128, N)

    def residual(steps):
        x = run(BiCGStab(0.0, 0.0, ell=ell, max_steps=steps), a, b).x
        return b - a @ x

    before, after = residual(2 * ell - 1), residual(2 * ell)
    powers = [before]
    for _ in range(ell):
        powers.append(a @ powers[-1])
    basis = np.stack(powers[1:], 1)
    least = before - basis @ np.linalg.lstsq(basis, before, rcond=None)[0]
    np.testing.assert_allclose(after, least, atol=1e-10 * np.linalg.norm(b))


@pytest.mark.parametrize("ell", [2, 4])
def test_rotations(draw, run, ell):
    """Skew-symmetric, with eigenvalues ±i, ±3 i, …: ℓ = 1 breaks down at once."""
    sizes = np.repeat(np.linspace(1, 3, N // 2), 2)
    a = np.kron(np.eye(N // 2), [[0.0, 1.0], [-1.0, 0.0]]) * sizes
    b = draw(np.float64, N)
    end = run(BiCGStab(1e-8, 0.0, ell=ell), a, b)
    assert end.result == "successful"
    np.testing.assert_allclose(end.x, np.linalg.solve(a, b), atol=1e-6)
    assert run(BiCGStab(1e-8, 0.0), a, b).result == "breakdown"


def test_degree_with_preconditioner(draw, run):
    """It is on the right, and takes part in each power."""
    a, b = 4 * np.eye(N) + draw(np.complex128, N, N), draw(np.complex128, N)
    m = np.linalg.inv(a + 0.3 * draw(np.complex128, N, N))
    M = lo.MatrixLinearOperator(jnp.asarray(m))
    ends = [run(BiCGStab(1e-10, 0.0, ell=2), a, b)]
    ends.append(run(BiCGStab(1e-10, 0.0, ell=2), a, b, preconditioner=M))
    for end in ends:
        assert end.result == "successful"
        np.testing.assert_allclose(end.x, np.linalg.solve(a, b), atol=1e-8)
    assert ends[1].steps < ends[0].steps
    with pytest.raises(ValueError, match="`ell`"):
        BiCGStab(1e-6, ell=0)


@pytest.mark.parametrize("preconditioned", [False, True])
def test_storage_of_degrees(preconditioned):
    """2 ℓ + 7 vectors, and 2 ℓ + 2 more with a preconditioner; one product."""
    n, ell = 10_000, 3
    structure = jax.ShapeDtypeStruct((n,), jnp.float64)
    operator = lo.FunctionLinearOperator(lambda x: 3 * x, structure)
    identity = lo.IdentityLinearOperator(structure)
    options = {"preconditioner": identity} if preconditioned else {}
    jaxpr = traced_solve(BiCGStab(1e-6, 1e-6, ell=ell), operator, options)
    (loop,) = (e for e in jaxpr.jaxpr.eqns if e.primitive.name == "while")
    kept = {id(v): v.aval.size for v in loop.params["body_jaxpr"].jaxpr.invars}
    more = 2 * ell + 2 if preconditioned else 0
    assert sum(kept.values()) // n + 1 == 2 * ell + 7 + more
