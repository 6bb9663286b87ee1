"""Errors of a ridge regression over its penalty, and the path of the descent."""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
from pages import run

page = run("jobs/ridge.md")
X, y, train, fit = (page[name] for name in ("X", "y", "train", "fit"))


def training(log_penalty):
    return jnp.mean((X[train] @ fit(jnp.exp(log_penalty)) - y[train]) ** 2)


scan, held_out = page["scan"], page["held_out"]
path = [5.0]
for _ in range(30):
    path.append(path[-1] - 20 * page["value_and_slope"](path[-1])[1])
path = jnp.stack([jnp.asarray(p) for p in path])

figure, axes = plt.subplots()
axes.semilogx(jnp.exp(scan), jax.vmap(training)(scan), label="training data")
axes.semilogx(jnp.exp(scan), jax.vmap(held_out)(scan), label="held-out data")
axes.semilogx(jnp.exp(path), jax.vmap(held_out)(path), "o", ms=4, label="descent")
axes.set(xlabel="penalty λ", ylabel="mean squared error", ylim=(0, 0.6))
axes.legend()
