"""Restarted GMRES on an indefinite matrix, by the length of its cycle."""

import jax.numpy as jnp
import lineax as lx
import matplotlib.pyplot as plt

n = 120
eigenvalues = jnp.concatenate(
    [jnp.linspace(-1, -0.1, n // 3), jnp.linspace(0.1, 2, n - n // 3)]
)
A = lx.MatrixLinearOperator(jnp.diag(eigenvalues) + jnp.diag(0.2 * jnp.ones(n - 1), 1))
b = jnp.ones(n)
figure, axes = plt.subplots()
for restart in (10, 120):
    solver = lx.GMRES(rtol=1e-9, atol=0.0, restart=restart, max_steps=400, history=True)
    solution = lx.linear_solve(A, b, solver, throw=False)
    r = solution.stats["residuals"]
    axes.semilogy(r / r[0], label=f"restart={restart}")
axes.set(xlabel="step", ylabel="‖b − Ax‖ / ‖b‖")
axes.legend()
