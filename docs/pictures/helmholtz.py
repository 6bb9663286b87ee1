"""-u″ - k² u with an absorbing layer at both ends: a wave from a point source."""

import jax.numpy as jnp
import lineax as lx
import matplotlib.pyplot as plt

n, k = 600, 60.0
t = jnp.linspace(0, 1, n)
h = t[1] - t[0]
absorbing = 40 * jnp.maximum(jnp.abs(t - 0.5) - 0.3, 0.0) / 0.2
diagonal = 2 / h**2 - k**2 * (1 + 1j * absorbing / k)
off = -jnp.ones(n - 1, diagonal.dtype) / h**2
A = lx.TridiagonalLinearOperator(diagonal, off, off)
source = jnp.zeros(n, diagonal.dtype).at[n // 2].set(1 / h)
u = lx.linear_solve(A, source, lx.Tridiagonal()).value

figure, axes = plt.subplots(figsize=(5.6, 2.8))
axes.plot(t, u.real, label="Re u")
axes.plot(t, u.imag, label="Im u")
axes.plot(t, jnp.abs(u), label="|u|")
axes.set(xlabel="t")
figure.legend(loc="outside upper center", ncols=3)
