"""The heat equation u_t = u_xx + u_yy on the unit square, zero on its border.

On a grid the Laplacian is a Kronecker sum, L = D ⊕ D with D the second difference: no
matrix of all points is formed. A step of the implicit midpoint rule solves
(I - τ/2 L) u' = (I + τ/2 L) u; its factors are diagonalised once, for all steps.
"""

import jax
import jax.numpy as jnp
import lineax as lx

jax.config.update("jax_enable_x64", True)

n, tau, steps = 127, 1e-3, 50
h = 1 / (n + 1)
x = h * jnp.arange(1, n + 1)

D = lx.TridiagonalLinearOperator(
    -2 / h**2 * jnp.ones(n), jnp.ones(n - 1) / h**2, jnp.ones(n - 1) / h**2
)
D = lx.TaggedLinearOperator(D, lx.negative_semidefinite_tag)
L = lx.KroneckerSumLinearOperator(D, D)
identity = lx.IdentityLinearOperator(L.in_structure())
explicit, implicit = identity + tau / 2 * L, identity - tau / 2 * L

solver = lx.AutoLinearSolver(well_posed=True)
state = solver.init(implicit, {})
print(solver.explain(implicit).splitlines()[-1])


def step(u, _):
    solution = lx.linear_solve(implicit, explicit.mv(u), solver, state=state)
    return solution.value, None


# A product of sines is an eigenvector of L: it decays by the same factor in every step.
u0 = jnp.sin(jnp.pi * x)[:, None] * jnp.sin(2 * jnp.pi * x)[None, :]
u, _ = jax.jit(lambda u: jax.lax.scan(step, u, length=steps))(u0)

eigenvalue = sum(-((2 / h * jnp.sin(k * jnp.pi * h / 2)) ** 2) for k in (1, 2))
decay = ((1 + tau / 2 * eigenvalue) / (1 - tau / 2 * eigenvalue)) ** steps
error = jnp.max(jnp.abs(u - decay * u0)) / decay
exact = jnp.exp(-5 * jnp.pi**2 * tau * steps)
print(f"{n} x {n} points, {steps} steps: the mode decays by {decay:.6f}")
print(f"against the closed form of the scheme: {error:.1e}")
print(f"against the differential equation: {abs(decay / exact - 1):.1e}")
assert error < 1e-10 and abs(decay / exact - 1) < 1e-2
