"""Structured solvers compared with dense LU and SciPy: times, and how they grow with n.

    python benchmarks/structured.py

prints a Markdown table. "growth" is log₂ of the ratio of times when n doubles. Dense LU
is measured up to n = 2000 and extrapolated beyond by n³, which the table says by a "~".
"""

import functools
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import scipy.linalg

jax.config.update("jax_enable_x64", True)
RNG = np.random.default_rng(0)
AUTO = lx.AutoLinearSolver(well_posed=True)


def normal(*shape):
    return jnp.asarray(RNG.standard_normal(shape))


def best(fn, *args, seconds=1.0):
    """The least time of a call, compiled before: of at least three, for a second."""
    jax.block_until_ready(fn(*args))
    times = []
    while len(times) < 3 or sum(times) < seconds:
        start = time.perf_counter()
        jax.block_until_ready(fn(*args))
        times.append(time.perf_counter() - start)
    return min(times)


@jax.jit
def solve(operator, b):
    return lx.linear_solve(operator, b, AUTO, throw=False).value


@functools.cache
def dense_time(n):
    """Of dense LU, and whether it was extrapolated."""
    m = min(n, 2000)
    a, b = normal(m, m) + 10 * m**0.5 * jnp.eye(m), normal(m)
    seconds = best(jax.jit(jnp.linalg.solve), a, b)
    return seconds * (n / m) ** 3, n > m


def kronecker(n):
    k = round(n**0.5)
    parts = (lx.MatrixLinearOperator(normal(k, k) + k * jnp.eye(k)) for _ in range(2))
    return lx.KroneckerLinearOperator(*parts)


def hermitian(k):
    a = normal(k, k)
    return lx.MatrixLinearOperator(a @ a.T / k, lx.positive_semidefinite_tag)


def kronecker_shifted(n):
    k = round(n**0.5)
    product = lx.KroneckerLinearOperator(hermitian(k), hermitian(k))
    return product + 0.1 * lx.IdentityLinearOperator(product.in_structure())


def kronecker_sum(n):
    k = round(n**0.5)
    parts = (lx.MatrixLinearOperator(normal(k, k) + k * jnp.eye(k)) for _ in range(2))
    return lx.KroneckerSumLinearOperator(*parts)


def circulant(n):
    return lx.CirculantLinearOperator(normal(n).at[0].add(3 * n**0.5))


def toeplitz(n):
    column = 0.9 ** jnp.arange(n, dtype=float)
    return lx.ToeplitzLinearOperator(column, tags=lx.positive_semidefinite_tag)


def low_rank(n):
    tags = {lx.positive_semidefinite_tag, lx.nonsingular_tag}
    d = lx.TaggedLinearOperator(lx.DiagonalLinearOperator(1 + normal(n) ** 2), tags)
    return lx.LowRankUpdateLinearOperator(d, normal(n, 10))


def banded(n):
    return lx.BandedLinearOperator(normal(11, n), 5, 5)


def block_tridiagonal(n):
    """Of blocks of size 4."""
    m = n // 4
    main = normal(m, 4, 4) + 10 * jnp.eye(4)
    return lx.BlockTridiagonalLinearOperator(main, *normal(2, m - 1, 4, 4))


def definite_blocks(n):
    """The Laplacian of a strip of m by 4 points, shifted."""
    m = n // 4
    strip = 5 * jnp.eye(4) - jnp.eye(4, k=1) - jnp.eye(4, k=-1)
    main, off = jnp.tile(strip, (m, 1, 1)), jnp.tile(-jnp.eye(4), (m - 1, 1, 1))
    tags = lx.positive_semidefinite_tag
    return lx.BlockTridiagonalLinearOperator(main, off, off, tags)


def stacked(n):
    """Blocks of size 10."""
    blocks = normal(n // 10, 10, 10) + 10 * jnp.eye(10)
    return lx.StackedLinearOperator(eqx.filter_vmap(lx.MatrixLinearOperator)(blocks))


def scipy_banded(operator, b):
    widths = operator.lower, operator.upper
    return scipy.linalg.solve_banded(widths, np.asarray(operator.bands), b)


def scipy_circulant(operator, b):
    return scipy.linalg.solve_circulant(np.asarray(operator.column), b)


def scipy_toeplitz(operator, b):
    return scipy.linalg.solve_toeplitz(np.asarray(operator.column), b)


CASES = [
    ("banded, 5 below and above", banded, (5000, 10_000, 20_000), scipy_banded),
    ("block diagonal, 10 by 10", stacked, (5000, 10_000, 20_000), None),
    ("block tridiagonal, 4 by 4", block_tridiagonal, (50_000, 100_000), None),
    ("the same, definite", definite_blocks, (50_000, 100_000), None),
    ("Kronecker", kronecker, (2500, 10_000, 40_000), None),
    ("Kronecker + σ²I", kronecker_shifted, (2500, 10_000, 40_000), None),
    ("Kronecker sum, Schur", kronecker_sum, (2500, 10_000), None),
    ("circulant", circulant, (2**14, 2**15, 2**16), scipy_circulant),
    ("Toeplitz, definite", toeplitz, (1024, 2048, 4096), scipy_toeplitz),
    ("diagonal + rank 10", low_rank, (20_000, 40_000, 80_000), None),
]


def row(name, make, n, theirs, before):
    operator = make(n)
    structure = operator.in_structure()
    b = normal(*structure.shape)
    seconds = best(solve, operator, b)
    x = solve(operator, b)
    residual = jnp.max(jnp.abs(operator.mv(x) - b)) / jnp.max(jnp.abs(b))
    dense, guessed = dense_time(n)
    words = [name, str(n), f"{1e3 * seconds:.2f} ms"]
    growth = ""
    if before is not None:
        growth = f"{np.log2(seconds / before[1]) / np.log2(n / before[0]):.1f}"
    words += [growth, f"{'~' if guessed else ''}{dense / seconds:.3g} ×"]
    peer = ""
    if theirs is not None:
        peer = f"{1e3 * best(theirs, operator, np.asarray(b)):.2f} ms"
    words += [peer, f"{residual:.0e}"]
    print("| " + " | ".join(words) + " |")
    return n, seconds


def main():
    print("| operator | n | ours | growth | dense LU takes | SciPy | residual |")
    print("|---|---|---|---|---|---|---|")
    for name, make, sizes, theirs in CASES:
        before = None
        for n in sizes:
            before = row(name, make, n, theirs, before)


if __name__ == "__main__":
    main()
