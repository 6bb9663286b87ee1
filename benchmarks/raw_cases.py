"""The same by hand: what JAX itself offers, and bare textbook loops.

The loops are what a method costs at the least: no checks of the arguments, no second
look at the residual, no honest exits. They are differentiated by
`jax.lax.custom_linear_solve`.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
import jax.scipy.sparse.linalg as jssl
import measure
from jax.lax import Precision
from measure import Case, calling, running

measure.configure()

TOL = 1e-8


def matmul(a, x):
    return jnp.matmul(a, x, precision=Precision.HIGHEST)


# JAX


def solve_qr(a, b):
    q, r = jnp.linalg.qr(a)
    return jsl.solve_triangular(r, matmul(q.T, b))


def solve_cholesky(a, b):
    return jsl.cho_solve(jsl.cho_factor(a), b)


def solve_lstsq(a, b):
    return jnp.linalg.lstsq(a, b)[0]


def jax_krylov(method):
    def solve(a, b):
        return method(lambda x: matmul(a, x), b, tol=TOL)[0]

    return solve


JAX = {
    "LU": jnp.linalg.solve,
    "QR": solve_qr,
    "SVD": solve_lstsq,
    "Cholesky": solve_cholesky,
    "CG": jax_krylov(jssl.cg),
    "BiCGStab": jax_krylov(jssl.bicgstab),
    "GMRES": jax_krylov(jssl.gmres),
}


# Textbook


def cg(A, b):
    """Golub and Van Loan, 4th ed., algorithm 11.3.3."""
    limit = TOL * jnp.linalg.norm(b)

    def step(s):
        x, r, p, ρ, k = s
        q = A(p)
        α = ρ / jnp.dot(p, q)
        x, r = x + α * p, r - α * q
        new = jnp.dot(r, r)
        return x, r, r + new / ρ * p, new, k + 1

    def running(s):
        return (jnp.sqrt(s[3]) > limit) & (s[4] < 10 * b.size)

    return jax.lax.while_loop(running, step, (b * 0, b, b, jnp.dot(b, b), 0))[0]


def bicgstab(A, b):
    """van der Vorst 1992, doi:10.1137/0913035."""
    limit = TOL * jnp.linalg.norm(b)

    def step(s):
        x, r, p, v, ρ, α, ω, k = s
        new = jnp.dot(b, r)
        p = r + new / ρ * (α / ω) * (p - ω * v)
        v = A(p)
        α = new / jnp.dot(b, v)
        h = r - α * v
        t = A(h)
        ω = jnp.dot(t, h) / jnp.dot(t, t)
        return x + α * p + ω * h, h - ω * t, p, v, new, α, ω, k + 1

    def running(s):
        return (jnp.linalg.norm(s[1]) > limit) & (s[-1] < 10 * b.size)

    one = jnp.ones((), b.dtype)
    start = (b * 0, b, b * 0, b * 0, one, one, one, 0)
    return jax.lax.while_loop(running, step, start)[0]


def gmres(A, b, restart=20):
    """Saad and Schultz 1986, doi:10.1137/0907058: Gram-Schmidt twice, Givens
    rotations, restarts."""
    limit = TOL * jnp.linalg.norm(b)
    m = min(restart, b.size)
    index = jnp.arange(m + 1)

    def cycle(s):
        x, _, k = s
        r = b - A(x)
        β = jnp.linalg.norm(r)
        V = jnp.zeros((m + 1, b.size), b.dtype).at[0].set(r / β)
        start = (
            V,
            jnp.eye(m, dtype=b.dtype),
            jnp.zeros((m + 1,), b.dtype).at[0].set(β),
            jnp.zeros((m, 2), b.dtype),
            0,
        )

        def step(s):
            V, R, g, rotations, j = s
            w = A(V[j])
            h = V @ w
            w = w - h @ V
            again = V @ w
            w, h = w - again @ V, h + again
            size = jnp.linalg.norm(w)
            h = h.at[j + 1].set(size)

            def rotate(i, h):
                c, s = rotations[i]
                a, b = h[i], h[i + 1]
                return h.at[i].set(c * a + s * b).at[i + 1].set(c * b - s * a)

            h = jax.lax.fori_loop(0, j, rotate, h)
            ρ = jnp.hypot(h[j], h[j + 1])
            c, s = h[j] / ρ, h[j + 1] / ρ
            g = g.at[j + 1].set(-s * g[j]).at[j].set(c * g[j])
            column = jnp.where(index[:m] < j, h[:m], 0).at[j].set(ρ)
            V = V.at[j + 1].set(jnp.where(size > 0, w / size, 0))
            return V, R.at[:, j].set(column), g, rotations.at[j].set([c, s]), j + 1

        def running(s):
            return (s[4] < m) & (jnp.abs(s[2][s[4]]) > limit)

        V, R, g, _, j = jax.lax.while_loop(running, step, start)
        y = jsl.solve_triangular(R, jnp.where(index[:m] < j, g[:m], 0))
        return x + y @ V[:m], jnp.abs(g[j]), k + j

    def unfinished(s):
        return (s[1] > limit) & (s[2] < 10 * b.size)

    return jax.lax.while_loop(unfinished, cycle, (b * 0, jnp.linalg.norm(b), 0))[0]


def differentiable(method, symmetric=False):
    def solve(a, b):
        return jax.lax.custom_linear_solve(
            lambda x: matmul(a, x), b, method, method, symmetric=symmetric
        )

    return solve


TEXTBOOK = {
    "CG": differentiable(cg, symmetric=True),
    "BiCGStab": differentiable(bicgstab),
    "GMRES": differentiable(gmres),
}


def gradient(solve):
    return jax.grad(lambda a, b: jnp.sum(solve(a, b) ** 2), argnums=(0, 1))


def each(methods) -> Iterator[Case]:
    """Compile and run times."""
    for name, solve in methods.items():
        for kind, fn in (("value", solve), ("gradient", gradient(solve))):
            for part, figure in measure.COMPILES.items():
                yield (
                    f"{part} {name} {kind}",
                    lambda f=figure, fn=fn: f(
                        fn, *measure.arrays(measure.definite, 10)
                    ),
                )
            for n in measure.SIZES:
                yield (
                    f"run {name} {kind} n={n}",
                    lambda fn=fn, n=n: running(
                        fn, *measure.arrays(measure.definite, n)
                    ),
                )


def with_jax() -> Iterator[Case]:
    yield from each(JAX)
    for name, solve in (("LU", jnp.linalg.solve), ("Cholesky", solve_cholesky)):
        yield (
            f"many {name} n=500, 500 right-hand sides",
            lambda fn=solve: running(fn, *measure.arrays(measure.right_hand_sides)),
        )
    yield (  # the goal for QR is relative to `jnp.linalg.solve`
        "many QR n=500, 500 right-hand sides",
        lambda: running(jnp.linalg.solve, *measure.arrays(measure.right_hand_sides)),
    )
    yield (
        "deficient n=500",
        lambda: running(solve_lstsq, *measure.arrays(measure.deficient, 500)),
    )
    count, n = measure.DEFICIENT
    yield (
        f"deficient {count} x n={n}",
        lambda: running(
            jax.vmap(solve_lstsq), *measure.arrays(measure.deficient, n, count)
        ),
    )
    for n, count in measure.BATCHED:
        yield (
            f"batch LU value {count} x n={n}",
            lambda n=n, k=count: running(
                jax.vmap(jnp.linalg.solve), *measure.arrays(measure.definite, n, k)
            ),
        )
    yield (
        "eager LU n=4",
        lambda: calling(
            jax.jit(jnp.linalg.solve), *measure.arrays(measure.definite, 4)
        ),
    )


def with_loops() -> Iterator[Case]:
    yield from each(TEXTBOOK)
    yield f"poisson CG {measure.GRID**2} unknowns, a step", streaming


def streaming() -> float:
    """The time to stream the vectors of one step: p = r + βp, q = Ap, ⟨p, q⟩, x + αp,
    r - αq, ⟨r, r⟩ read or write 14, at the speed of z = x + 2y, which moves three."""
    vector = jnp.asarray(measure.load())
    return running(lambda x, y: x + 2 * y, vector, vector + 1) * 14 / 3


if __name__ == "__main__":
    measure.main(lambda: {"jax": with_jax(), "textbook": with_loops()})
