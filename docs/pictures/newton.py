"""Newton's method on -Δu + u + u³ = 2, with CG on the Jacobian."""

import jax.numpy as jnp
import lineax as lx
import matplotlib.pyplot as plt


def f(u, load):
    v = jnp.pad(u, 1)
    neighbours = v[:-2, 1:-1] + v[2:, 1:-1] + v[1:-1, :-2] + v[1:-1, 2:]
    return 5 * u - neighbours + u**3 - load


load = 2 * jnp.ones((64, 64))
u, sizes = jnp.zeros_like(load), []
for _ in range(7):
    sizes.append(jnp.max(jnp.abs(f(u, load))))
    jacobian = lx.JacobianLinearOperator(f, u, load, lx.positive_semidefinite_tag)
    step = lx.linear_solve(jacobian, f(u, load), lx.CG(1e-12, 1e-14), throw=False)
    u = u - step.value

figure, axes = plt.subplots()
axes.semilogy(sizes, "o-")
axes.set(xlabel="Newton step", ylabel="max |f(u)|")
