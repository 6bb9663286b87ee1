"""Fit certified data, differentiate the fit, and solve without a matrix.

Run it from the root of the repository: `hatch run demo`.
"""

import json
from fractions import Fraction
from pathlib import Path

import jax
import jax.numpy as jnp
import lineax as lx

jax.config.update("jax_enable_x64", True)


def longley():
    """The regression of Longley (1967), and its exact coefficients, from NIST's
    Statistical Reference Datasets."""
    file = Path(__file__).parents[1] / "tests" / "data" / "nist_strd.json"
    data = json.loads(file.read_text())["Longley"]
    X = jnp.array([[float(Fraction(x)) for x in row] for row in data["X"]])
    y = jnp.array([float(Fraction(y)) for y in data["y"]])
    return X, y, jnp.array([float(c) for c in data["exact_coef"]])


def fit(X, y):
    """min ‖X c − y‖ by QR."""
    return lx.linear_solve(lx.MatrixLinearOperator(X), y, lx.QR()).value


def residual_norm(X, y):
    return jnp.linalg.norm(y - X @ fit(X, y))


def quadratic(x, A):
    """½ xᵀAx − Σx + ¼ Σx⁴/10, convex: A is the Laplacian of a chain."""
    return 0.5 * x @ A.mv(x) - jnp.sum(x) + 0.025 * jnp.sum(x**4)


print("1. Least squares on real data: Longley by QR")
X, y, exact = longley()
fitted = fit(X, y)
digits = -jnp.log10(jnp.abs(fitted / exact - 1))
print(f"   {'fitted':>24} {'certified':>24} {'correct digits':>16}")
for ours, truth, d in zip(fitted, exact, digits):
    print(f"   {ours:24.14f} {truth:24.14f} {d:16.1f}")

print("\n2. The gradient of the residual norm with respect to the data y")
# By the envelope theorem it is r / ‖r‖: the fit itself does not move the norm.
gradient = jax.grad(residual_norm, argnums=1)(X, y)
residual = y - X @ fitted
error = jnp.max(jnp.abs(gradient - residual / jnp.linalg.norm(residual)))
print(f"   largest difference from the closed form r/‖r‖: {error:.1e}")

print("\n3. A Newton step without a matrix: CG on a Jacobian")
n = 10_000
A = lx.TridiagonalLinearOperator(2.1 * jnp.ones(n), -jnp.ones(n - 1), -jnp.ones(n - 1))
x = jnp.linspace(0, 1, n)
gradient_at = jax.grad(quadratic)
hessian = lx.JacobianLinearOperator(gradient_at, x, A, lx.positive_semidefinite_tag)
step = lx.linear_solve(hessian, -gradient_at(x, A), lx.CG(rtol=1e-10, atol=1e-10))
left = jnp.linalg.norm(hessian.mv(step.value) + gradient_at(x, A))
print(f"   {n} unknowns, {int(step.stats['num_steps'])} steps")
print(f"   residual {left / jnp.linalg.norm(gradient_at(x, A)):.1e} of the gradient")

assert jnp.min(digits) > 10 and error < 1e-8 and left < 1e-6
