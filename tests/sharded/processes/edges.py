"""Small, empty and disconnected systems, mixed meshes, and what users get wrong, on
eight devices; each check prints a line when it holds."""

import os
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla
from devices import MESH, PSD, RNG, mesh_of, near, ok, run_tests, sharded
from jax.sharding import AxisType, PartitionSpec
from problems import poisson

TWO_LEVELS = lx.CG(1e-12, 0.0, preconditioner=lx.AdditiveSchwarz(1, coarse=2))


def chain(n) -> Any:
    """A definite tridiagonal matrix."""
    off = -np.ones(max(n - 1, 0))
    parts = (off, 2.5 * np.ones(n), off)
    return sp.csr_array(sp.diags_array(parts, offsets=[-1, 0, 1], shape=(n, n)))


def solved(S, b, solver):
    run = jax.jit(lambda S, B: lx.linear_solve(S, B, solver, throw=False))
    solution = run(S, S.pattern.distribute(b))
    assert solution.successful, solution
    return S.pattern.collect(solution.value)


def says(words, call):
    try:
        call()
    except ValueError as error:
        assert words in str(error), (words, error)
    else:
        raise AssertionError(words)


def test_small_and_disconnected():
    """Fewer rows than devices, rows without entries off the diagonal, and parts that
    do not touch: no device of the last ones receives anything."""
    apart = sp.block_diag([chain(5), chain(2), sp.eye_array(4)], format="csr")
    for A in (chain(3), sp.csr_array(apart)):
        S = sharded(A, order="bisection", overlap=1, tags=PSD)
        b = RNG.normal(size=A.shape[0])
        near(solved(S, b, TWO_LEVELS), spla.spsolve(A.tocsc(), b), 1e-10)
    S = sharded(sp.csr_array(sp.eye_array(24)), order="bisection", overlap=1)
    assert S.bytes_received == 0
    near(S.mv(jnp.arange(24.0)), np.arange(24.0))
    ok("small and disconnected")


def test_negative_definite():
    """What pads the exchange is negative, too."""
    A, b = chain(21), RNG.normal(size=21)
    tag = lx.negative_semidefinite_tag
    S = sharded(-A, order="bisection", overlap=1, tags=tag)
    near(solved(S, b, TWO_LEVELS), -spla.spsolve(A.tocsc(), b), 1e-10)
    ok("negative definite")


def test_empty():
    """No rows, or no columns: the solutions are empty, or zero."""
    for kind in (AxisType.Auto, AxisType.Explicit):
        S = sharded(sp.csr_array((0, 0)), mesh_of(8, kind), overlap=1, tags=PSD)
        assert solved(S, np.zeros(0), TWO_LEVELS).shape == (0,)
    solver = lx.LSMR(1e-8, 0.0, preconditioner=lx.Jacobi())
    for m, n in [(0, 3), (3, 0)]:
        x = solved(sharded(sp.csr_array((m, n))), np.ones(m), solver)
        assert np.array_equal(x, np.zeros(n))
    ok("empty")


def test_meshes_of_two_axes():
    A, b = chain(20), RNG.normal(size=20)
    auto, explicit = AxisType.Auto, AxisType.Explicit
    for kinds in [(auto, explicit), (explicit, auto)]:
        mesh = jax.make_mesh((4, 2), ("rows", "other"), axis_types=kinds)
        S = sharded(A, mesh, axis="rows", order="bisection", overlap=1, tags=PSD)
        assert S.pattern.distribute(b).sharding.spec == PartitionSpec("rows")
        near(solved(S, b, TWO_LEVELS), spla.spsolve(A.tocsc(), b), 1e-10)
    ok("meshes of two axes")


def test_bounds_on_explicit_axes():
    A, b = poisson(3, 10.0), RNG.normal(size=27)
    S = sharded(A, mesh_of(8, AxisType.Explicit), order="bisection", tags=PSD)
    solver, B = lx.CG(1e-6, 0.0), S.pattern.distribute(b)
    solution = lx.linear_solve(S, B, solver)
    truth = spla.spsolve(A.tocsc(), b)
    error = np.linalg.norm(S.pattern.collect(solution.value) - truth)
    bounds = lx.error_bounds(S, B, solution, solver, matrix=False)
    bound = float(bounds.forward_error)
    assert error / np.linalg.norm(truth) <= bound <= 1e-3, (error, bound)
    ok("bounds on explicit axes")


def test_failures_raise_in_programs():
    """On every device, so that none waits for another one that has raised."""
    for kind in (AxisType.Auto, AxisType.Explicit):
        S = sharded(chain(24), mesh_of(8, kind), tags=PSD)

        def total(B, S, steps):
            solver = lx.CG(1e-12, 0.0, max_steps=steps)
            return jnp.sum(lx.linear_solve(S, B, solver).value)

        run = jax.jit(jax.grad(total), static_argnums=2)
        B = S.pattern.distribute(np.arange(24.0))
        gradient = S.pattern.collect(run(B, S, 30))
        near(gradient, spla.spsolve(chain(24).tocsc(), np.ones(24)), 1e-10)
        try:
            jax.block_until_ready(run(B, S, 2))
        except jax.errors.JaxRuntimeError as error:
            assert "max_steps_reached" in str(error), error
        else:
            raise AssertionError(kind)
    ok("failures raise in programs")


def test_mistakes():
    """Each is refused, with a word of what to do."""
    A = chain(20)
    S, wide = sharded(A), sharded(sp.csr_array((30, 12)))

    def made(entries):
        return lx.ShardedSparsityPattern.from_callback((20, 20), MESH, entries)

    def own(start, stop):
        i, j = A[start:stop].tocoo().coords
        return i + start, j

    def mixed(start, stop):
        return np.ones(stop - start, complex if start else np.float32)

    pattern: Any = made(own)
    ones: Any = lambda start, stop: np.ones(stop - start)  # noqa: E731
    matrix: Any = A
    divided = lx.ShardedSparseLinearOperator.from_operator
    for words, call in [
        ("1 is not in it", lambda: sharded(A, order=[0] * 20)),
        ("got bool", lambda: sharded(A, order=np.ones(20, bool))),
        ("must return two arrays", lambda: made(lambda start, stop: None)),
        ("must return two arrays", lambda: made(lambda *at: A[slice(*at)])),
        ("must be a function", lambda: made("bisection")),
        ("of one dtype", lambda: pattern.distribute(mixed)),
        ("under `jit`", lambda: jax.jit(lambda p: p.distribute(ones))(pattern)),
        ("under `jit`", lambda: jax.jit(lambda p: p.assemble(ones))(pattern)),
        ("`columns=True`", lambda: wide.pattern.distribute(jnp.ones(12))),
        ("`rows=True`", lambda: wide.pattern.collect(jnp.ones(32))),
        ("from_scipy", lambda: divided(matrix, MESH)),
        ("`pattern.distribute", lambda: S.mv(jnp.ones(20))),
        ("AdditiveSchwarz", lambda: lx.linear_solve(S, jnp.ones(24), lx.SparseLU())),
        ("AdditiveSchwarz", lambda: lx.IncompleteLU().as_operator(S)),
    ]:
        says(words, call)
    tagged = lx.TaggedLinearOperator(lx.SparseLinearOperator.from_scipy(A), PSD)
    assert lx.is_positive_semidefinite(divided(tagged, MESH))
    ok("mistakes")


if __name__ == "__main__":
    run_tests(globals())
