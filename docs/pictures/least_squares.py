"""Correct digits of fits of degree 7 on [c, c + 1], compared with exact arithmetic."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import lineax as lx
import matplotlib.pyplot as plt
import numpy as np


def exact_fit(A, b):
    """The least-squares solution of float64 data, by elimination in fractions."""
    A = [[Fraction(x) for x in row] for row in A.tolist()]
    b = [Fraction(x) for x in b.tolist()]
    k = range(len(A[0]))
    M = [
        [sum(row[i] * row[j] for row in A) for j in k]
        + [sum(row[i] * y for row, y in zip(A, b))]
        for i in k
    ]
    for i in k:
        M[i] = [x / M[i][i] for x in M[i]]
        for j in k:
            if j != i:
                M[j] = [x - M[j][i] * y for x, y in zip(M[j], M[i])]
    return np.array([float(row[-1]) for row in M])


t = np.linspace(0, 1, 24)
As = [np.vander(c + t, 8) for c in np.linspace(-0.5, 7, 16)]
bs = [A @ np.ones(8) + 1e-3 * np.cos(40 * t) for A in As]
truths = np.array([exact_fit(A, b) for A, b in zip(As, bs)])
conditions = [np.linalg.cond(A) for A in As]

figure, axes = plt.subplots()
solvers = {
    "Refined(QR())": lx.Refined(lx.QR()),
    "QR()": lx.QR(),
    "Normal(Cholesky())": lx.Normal(lx.Cholesky()),
}
for name, solver in solvers.items():

    def fit(A, b, solver=solver):
        operator = lx.MatrixLinearOperator(A)
        solution = lx.linear_solve(operator, b, solver, throw=False)
        solved = solution.result == lx.RESULTS.successful
        return jnp.where(solved, solution.value, jnp.nan)

    x = jax.jit(jax.vmap(fit))(jnp.array(As), jnp.array(bs))
    errors = np.max(np.abs(x - truths), 1) / np.max(np.abs(truths), 1)
    digits = np.clip(-np.log10(errors + 1e-16), 0, 16)
    axes.semilogx(conditions, digits, "o-", markersize=4, label=name)
axes.set(xlabel="condition number of A", ylabel="correct digits", ylim=(0, 17))
figure.legend(loc="outside upper center", ncols=3, columnspacing=1)
