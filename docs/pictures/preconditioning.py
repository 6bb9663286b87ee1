"""CG on a stiff chain coupled to a smooth kernel: none, Jacobi, the chain solved."""

import jax.numpy as jnp
import lineax as lx
import matplotlib.pyplot as plt

definite = lx.positive_semidefinite_tag
n = 300
t = jnp.linspace(0, 1, n)
stiffness = 10 ** (3 * jnp.sin(4 * jnp.linspace(0, 1, n + 1)) ** 2)
chain = lx.TridiagonalLinearOperator(
    1e-3 + stiffness[:-1] + stiffness[1:], -stiffness[1:-1], -stiffness[1:-1]
)
kernel = lx.MatrixLinearOperator(jnp.exp(-((t[:, None] - t) ** 2) / 0.1), definite)
A = lx.TaggedLinearOperator(chain, definite) + kernel
b = jnp.ones(n)
preconditioners = {
    "none": None,
    "diagonal of A": lx.DiagonalLinearOperator(1 / lx.diagonal(A)),
    "the chain, by Tridiagonal()": lx.invert(chain, lx.Tridiagonal()),
}

figure, axes = plt.subplots()
for name, M in preconditioners.items():
    options = (
        {} if M is None else {"preconditioner": lx.TaggedLinearOperator(M, definite)}
    )
    solver = lx.CG(rtol=1e-9, atol=0.0, max_steps=800, history=True)
    stats = lx.linear_solve(A, b, solver, options=options, throw=False).stats
    r = stats["residuals"]
    axes.semilogy(r / r[0], label=f"{name}: {int(stats['num_steps'])} steps")
axes.set(xlabel="step", ylabel="‖b − Ax‖ / ‖b‖")
axes.legend()
