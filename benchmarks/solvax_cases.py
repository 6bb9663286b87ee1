"""The same by `solvax`, where it has the algorithm."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import measure
from measure import Case, compiling, running

measure.configure()

import solvax  # noqa: E402  # pyright: ignore[reportMissingImports]

TOL = 1e-8


def cg(a, b):
    return solvax.pcg_linear_solve(lambda x: a @ x, b, rtol=TOL).x


def gmres(a, b):
    return solvax.gmres(lambda x: a @ x, b, rtol=TOL, restart=20).x


def gradient(solve):
    return jax.grad(lambda a, b: jnp.sum(solve(a, b) ** 2), argnums=(0, 1))


def poisson() -> float:
    def solve(vector):
        return solvax.pcg(
            measure.laplacian, vector, rtol=0.0, max_steps=measure.STEPS
        ).x

    return running(solve, jnp.asarray(measure.load()), seconds=2) / measure.STEPS


def cases() -> Iterator[Case]:
    methods = {"CG value": cg, "CG gradient": gradient(cg), "GMRES value": gmres}
    for name, fn in methods.items():
        yield (
            f"compile {name}",
            lambda fn=fn: compiling(fn, *arrays(10)),
        )
        for n in measure.SIZES:
            yield f"run {name} n={n}", lambda fn=fn, n=n: running(fn, *arrays(n))
    yield f"poisson CG {measure.GRID**2} unknowns, a step", poisson


def arrays(n: int):
    return [jnp.asarray(x) for x in measure.definite(n)]


if __name__ == "__main__":
    measure.main(lambda: {"solvax": cases()})
