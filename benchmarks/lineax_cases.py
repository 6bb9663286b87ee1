"""The cases, by whatever `lineax` is installed: ours or the published one.

Only names that the published `lineax` 0.1.1 has are used.
"""

import functools
import subprocess
import sys
import time
import warnings
from collections.abc import Iterable, Iterator

import equinox  # noqa: F401
import jax
import jax.numpy as jnp
import measure
from measure import Case, calling, running

ASYNCHRONOUS = "--asynchronous" in sys.argv
measure.configure(ASYNCHRONOUS)

MATRIX, VECTOR = measure.arrays(measure.definite, 4)
BEFORE_IMPORT = time.perf_counter()
import lineax as lx  # noqa: E402

warnings.simplefilter("ignore")

PSD = lx.positive_semidefinite_tag
LOWER = lx.lower_triangular_tag
BANDED = lx.tridiagonal_tag
TOL = 1e-8
# made when a case needs it: a first solve is to load no other solver
SOLVERS = {
    "LU": (lambda: lx.LU(), ()),
    "QR": (lambda: lx.QR(), ()),
    "SVD": (lambda: lx.SVD(), ()),
    "Cholesky": (lambda: lx.Cholesky(), PSD),
    "CG": (lambda: lx.CG(TOL, TOL), PSD),
    "BiCGStab": (lambda: lx.BiCGStab(TOL, TOL), ()),
    "GMRES": (lambda: lx.GMRES(TOL, TOL), ()),
    "LSMR": (lambda: lx.LSMR(TOL, TOL), ()),
    "Normal(CG)": (lambda: lx.Normal(lx.CG(TOL, TOL)), ()),
}
# what is run in batches only, or first in a process
OTHERS = {
    "Triangular": (lambda: lx.Triangular(), LOWER),
    "Tridiagonal": (lambda: lx.Tridiagonal(), BANDED),
    "Normal(Cholesky)": (lambda: lx.Normal(lx.Cholesky()), ()),
    "Auto": (lambda: lx.AutoLinearSolver(well_posed=True), ()),
}
ALL = SOLVERS | OTHERS
BATCHED = ("LU", "QR", "Cholesky", "GMRES", "LSMR", *list(OTHERS)[:3])
FIRST = ("LU", "Auto", "CG")
HESSIANS = ("LU", "CG", "GMRES", "LSMR")


def value(name):
    make, tags = ALL[name]
    solver = make()

    def solve(matrix, vector):
        operator = lx.MatrixLinearOperator(matrix, tags)
        return lx.linear_solve(operator, vector, solver, throw=False).value

    return solve


def loss(name):
    solve = value(name)
    return lambda matrix, vector: jnp.sum(solve(matrix, vector) ** 2)


def gradient(name):
    return jax.grad(loss(name), argnums=(0, 1))


def hessian(name):
    return jax.hessian(loss(name))


KINDS = {"value": value, "gradient": gradient}


def rank_deficient(matrix, vector):
    solver = lx.AutoLinearSolver(well_posed=False)
    operator = lx.MatrixLinearOperator(matrix)
    return lx.linear_solve(operator, vector, solver, throw=False).value


def poisson(solver):
    structure = jax.ShapeDtypeStruct((measure.GRID, measure.GRID), jnp.float64)

    def solve(vector):
        operator = lx.FunctionLinearOperator(measure.laplacian, structure, PSD)
        return lx.linear_solve(operator, vector, solver, throw=False).value

    return solve


FIXED = lx.CG(0.0, 0.0, max_steps=measure.STEPS)
TESTED = lx.CG(1e-12, 0.0, max_steps=measure.STEPS)  # which is not reached


def cases() -> Iterator[Case]:
    for name in FIRST:
        yield f"first {name}", lambda s=name: in_a_process("--first", s)
    for part, figure in measure.COMPILES.items():
        for kind, build in {**KINDS, "hessian": hessian}.items():
            for name in HESSIANS if kind == "hessian" else SOLVERS:
                yield (
                    f"{part} {name} {kind}",
                    lambda f=figure, b=build, s=name: f(
                        b(s), *measure.arrays(measure.definite, 10)
                    ),
                )
    yield from runs("run", measure.SIZES)
    for name in HESSIANS:
        yield (
            f"run {name} hessian n=10",
            lambda s=name: running(hessian(s), *measure.arrays(measure.definite, 10)),
        )
    for name in ("LU", "QR", "Cholesky"):
        yield (
            f"many {name} n=500, 500 right-hand sides",
            lambda s=name: running(
                jax.vmap(value(s), in_axes=(None, 1), out_axes=1),
                *measure.arrays(measure.right_hand_sides),
            ),
        )
    yield (
        "deficient n=500",
        lambda: running(rank_deficient, *measure.arrays(measure.deficient, 500)),
    )
    count, n = measure.DEFICIENT
    yield (
        f"deficient {count} x n={n}",
        lambda: running(
            jax.vmap(rank_deficient), *measure.arrays(measure.deficient, n, count)
        ),
    )
    yield from batches()
    for n, count in measure.TINY.items():
        yield (
            f"batch LU value {count} x n={n}",
            lambda n=n, k=count: running(
                jax.vmap(value("LU")), *measure.arrays(measure.definite, n, k)
            ),
        )
    yield "eager LU n=4", lambda: eager("LU")
    yield "eager CG n=4", lambda: eager("CG")
    yield (
        f"poisson CG {measure.GRID**2} unknowns, a step",
        lambda: (
            running(poisson(FIXED), jnp.asarray(measure.load()), seconds=2)
            / measure.STEPS
        ),
    )
    yield (
        f"poisson CG {measure.GRID**2} unknowns, a step and its test",
        lambda: running(poisson(TESTED), jnp.asarray(measure.load())) / measure.STEPS,
    )
    for kind in ("value", "gradient"):
        yield (
            f"memory poisson CG {kind}",
            lambda k=kind: in_a_process("--memory", k),
        )


def runs(verb: str, sizes: Iterable[int]) -> Iterator[Case]:
    for n in sizes:
        for name in SOLVERS:
            for kind, build in KINDS.items():
                yield (
                    f"{verb} {name} {kind} n={n}",
                    lambda b=build, s=name, n=n: running(
                        b(s), *measure.arrays(measure.definite, n)
                    ),
                )


def batches() -> Iterator[Case]:
    """Many systems of a middle size under one `vmap`."""
    for count in measure.BATCHES:
        for n in measure.MIDDLE:
            for name in BATCHED:
                for kind, build in KINDS.items():
                    yield (
                        f"batch {name} {kind} {count} x n={n}",
                        lambda b=build, s=name, n=n, k=count: running(
                            jax.vmap(b(s)),
                            *measure.arrays(problem(s), n, k),
                            seconds=0.25,
                        ),
                    )


def problem(name):
    """What a solver is given: its triangle or its three diagonals, else all."""
    tags = ALL[name][1]
    return functools.partial(measure.definite, lower=tags is LOWER, band=tags is BANDED)


def asynchronous() -> Iterator[Case]:
    """The small ones of them, as JAX dispatches them by default."""
    yield from runs("asynchronous", measure.SIZES[:2])


def eager(name):
    make, tags = SOLVERS[name]
    matrix, vector = measure.arrays(measure.definite, 4)
    operator = lx.MatrixLinearOperator(matrix, tags)
    return calling(lx.linear_solve, operator, vector, make())


def in_a_process(*task: str) -> float:
    """The figure that a process prints which does this alone."""
    command = [sys.executable, __file__, *task]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(out.stdout)


def memory(kind: str) -> float:
    """The peak memory."""
    solve = poisson(FIXED)
    fn = solve if kind == "value" else jax.grad(lambda b: jnp.sum(solve(b) ** 2))
    jax.block_until_ready(jax.jit(fn)(jnp.asarray(measure.load())))
    return measure.peak_memory()


def first(name: str) -> float:
    """Seconds from `import lineax` to the value of a first solve. JAX and Equinox were
    imported, JAX's device and a first program of its own were there before."""
    make, tags = ALL[name]
    solver = make()
    operator = lx.MatrixLinearOperator(MATRIX, tags)
    jax.block_until_ready(lx.linear_solve(operator, VECTOR, solver).value)
    return time.perf_counter() - BEFORE_IMPORT


TASKS = {"--memory": memory, "--first": first}

if __name__ == "__main__":
    if task := TASKS.get(sys.argv[1]) if sys.argv[1:] else None:
        print(task(sys.argv[2]))
    else:
        chosen = asynchronous() if ASYNCHRONOUS else cases()
        measure.main(lambda: {"lineax": chosen})
