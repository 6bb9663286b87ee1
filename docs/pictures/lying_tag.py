"""A symmetric matrix with one element changed, solved with and without a false tag."""

import functools

import jax
import jax.numpy as jnp
import lineax as lx
import matplotlib.pyplot as plt

n = 30
A = jnp.eye(n) * 4 + jax.random.normal(jax.random.key(0), (n, n)) / n
A, b = A + A.T, jnp.ones(n)
sizes = jnp.logspace(-14, -1, 27)


def residual(size, tags):
    matrix = A.at[0, n - 1].add(size)
    operator = lx.MatrixLinearOperator(matrix, tags)
    x = lx.linear_solve(operator, b).value
    return jnp.linalg.norm(b - matrix @ x) / jnp.linalg.norm(b)


figure, axes = plt.subplots()
for name, tags in (
    ("tagged symmetric definite", lx.positive_semidefinite_tag),
    ("no tag", ()),
):
    axes.loglog(
        sizes, jax.vmap(functools.partial(residual, tags=tags))(sizes), label=name
    )
axes.set(xlabel="|Aᵢⱼ − Aⱼᵢ| of one element", ylabel="‖b − Ax‖ / ‖b‖")
axes.legend()
