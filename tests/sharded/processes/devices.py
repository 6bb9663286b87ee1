"""Sharded sparse operators on eight devices; each check prints a line when it holds."""

import os
import re
import sys
import time
from collections import Counter
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla
from jax.sharding import AxisType, Mesh, PartitionSpec
from problems import poisson

jax.config.update("jax_enable_x64", True)
PSD = lx.positive_semidefinite_tag
RNG = np.random.default_rng(0)


def mesh_of(p, kind=AxisType.Auto):
    return Mesh(np.array(jax.devices()[:p]), ("rows",), axis_types=(kind,))


MESH = mesh_of(8)
EYE = lx.DiagonalLinearOperator(jnp.ones(2))


def ok(name):
    print(name, "ok", flush=True)


def near(x, y, tolerance=1e-12):
    scale = np.max(np.abs(y), initial=1.0)
    assert np.max(np.abs(np.asarray(x) - y), initial=0.0) <= tolerance * scale


def random_matrix(m, n, density, dtype) -> Any:
    A = sp.random_array((m, n), density=density, rng=RNG, format="csr").astype(dtype)
    if np.iscomplexobj(A.data):
        A.data = A.data + 1j * RNG.normal(size=A.data.size)
    return A


def sharded(A, mesh=MESH, **options):
    operator = lx.SparseLinearOperator.from_scipy(A)
    return lx.ShardedSparseLinearOperator.from_operator(operator, mesh, **options)


def collectives(fn, *arguments):
    """The collective operations of a compiled program, with their shapes."""
    text = jax.jit(fn).lower(*arguments).compile().as_text() or ""
    kinds = "all-gather|all-reduce|collective-permute|all-to-all|reduce-scatter"
    return re.findall(rf"= (.+?) ({kinds})(?:-start)?\(", text)


def sent_bytes(found):
    """The bytes that a device receives by messages."""
    total = 0
    for shape, kind in found:
        if kind in ("collective-permute", "all-to-all"):
            for bits, dims in re.findall(r"[fc](\d+)\[([\d,]*)\]", shape):
                size = np.prod([int(d) for d in dims.split(",") if d], dtype=int)
                total += int(bits) // 8 * size
    return total


def test_products():
    dense_row = sp.lil_array((40, 40))
    dense_row[0, :], dense_row[:, 3] = 1, 2
    dense_row.setdiag(3)
    matrices = [
        random_matrix(50, 50, 0.1, complex),
        random_matrix(53, 37, 0.1, float),
        random_matrix(5, 3, 0.4, np.float32),
        sp.csr_array(dense_row),
        sp.csr_array((16, 16)),
    ]
    for A in matrices:
        square = A.shape[0] == A.shape[1]
        for order in ("given", "bisection", RNG.permutation(A.shape[0])):
            S = sharded(A, order=order)
            pattern, (m, n) = S.pattern, A.shape
            eps = 1e-5 if A.dtype == np.float32 else 1e-12
            x = RNG.normal(size=n).astype(A.dtype)
            y = RNG.normal(size=m).astype(A.dtype)
            X, Y = pattern.distribute(x, columns=True), pattern.distribute(y)
            near(pattern.collect(X), x, 0)
            near(pattern.collect(Y, rows=True), y, 0)
            near(pattern.collect(S.mv(X), rows=True), A @ x, eps)
            near(pattern.collect(S.T.mv(Y)), A.T @ y, eps)
            near(pattern.collect(S.H.mv(Y)), A.conj().T @ y, eps)
            both = jax.vmap(S.mv, in_axes=1, out_axes=1)(jnp.stack([X, 2 * X], 1))
            near(pattern.collect(both[:, 1], rows=True), 2 * A @ x, eps)
            if square:
                near(pattern.collect(lx.diagonal(S)), A.diagonal(), eps)
                near(lx.diagonal(S), np.diag(S.as_matrix()), eps)
                near(S.T.as_matrix(), np.asarray(S.as_matrix()).T, eps)
    ok("products")


def parts_of(A):
    """Functions of the rows of a SciPy matrix, in an order of their own."""

    def part(start, stop):
        rows = A[start:stop].tocoo()
        order = np.random.default_rng(start).permutation(rows.data.size)
        i, j = rows.coords
        return (i[order] + start, j[order]), rows.data[order]

    return (lambda *at: part(*at)[0]), (lambda *at: part(*at)[1])


def test_from_callback():
    """What is made of the rows of each device is what is made of the whole."""
    for A, overlap in [
        (poisson(4), 1),
        (random_matrix(53, 37, 0.1, complex), 0),
        (random_matrix(5, 3, 0.4, np.float32), 0),
        (sp.csr_array((16, 16)), 1),
    ]:
        entries, values = parts_of(A)
        whole = lx.ShardedSparsityPattern(A, MESH, overlap=overlap)
        pattern = lx.ShardedSparsityPattern.from_callback(
            A.shape, MESH, entries, overlap=overlap
        )
        assert pattern.size == A.nnz
        for name in ("local", "halo", "overlap", "rows", "columns"):
            assert eqx.tree_equal(getattr(pattern, name), getattr(whole, name)), name
        S = lx.ShardedSparseLinearOperator(pattern.assemble(values), pattern)
        near(S.values, np.asarray(whole.assemble(A.tocsr().data)), 0)
        x = RNG.normal(size=A.shape[1])
        X = pattern.distribute(lambda start, stop, x=x: x[start:stop], columns=True)
        near(pattern.collect(S.mv(X.astype(A.dtype)), rows=True), A @ x, 1e-5)
    for wrong, says in [
        (lambda a, b: ([0], [0]), "entry 0 is in row 0"),
        (lambda a, b: ([a, a], [1, 1]), "comes twice"),
        (lambda a, b: ([a], [16]), "column 16"),
    ]:
        try:
            lx.ShardedSparsityPattern.from_callback((16, 16), MESH, wrong)
        except ValueError as error:
            assert says in str(error), error
        else:
            raise AssertionError(says)
    ok("from callback")


def test_derivatives_of_products():
    A = random_matrix(43, 31, 0.2, float)
    S = sharded(A, order="bisection")
    pattern = S.pattern
    x, y = RNG.normal(size=31), RNG.normal(size=43)
    X, Y = pattern.distribute(x, columns=True), pattern.distribute(y)

    def product(values, X):
        return Y @ lx.ShardedSparseLinearOperator(values, pattern).mv(X)

    g, gx = jax.jit(jax.grad(product, (0, 1)))(S.values, X)
    rows = np.repeat(np.arange(43), np.diff(A.indptr))
    near(g, np.asarray(pattern.assemble(y[rows] * x[A.indices])))
    near(pattern.collect(gx), A.T @ y)
    assert g.sharding == S.values.sharding
    # where values are padded, they are not read
    spoilt = jnp.where(pattern.entries < 0, jnp.nan, S.values)
    near(lx.ShardedSparseLinearOperator(spoilt, pattern).mv(X), np.asarray(S.mv(X)))
    # as contributions of the user's values
    g = jax.grad(lambda v: product(pattern.assemble(v), X))(jnp.asarray(A.data))
    near(g, y[rows] * x[A.indices])
    # a batch of values, and the second derivative
    two = jax.vmap(lambda v: product(v, X))(jnp.stack([S.values, 2 * S.values]))
    near(two, np.array([1, 2]) * (y @ (A @ x)))
    v = jnp.ones_like(S.values)
    mixed = jax.jvp(lambda v: jax.grad(product, 1)(v, X), (S.values,), (v,))[1]
    near(pattern.collect(mixed), (A != 0).T.astype(float) @ y)
    ok("derivatives of products")


def test_inside_shard_map():
    S = sharded(poisson(6), order="bisection")
    x = S.pattern.distribute(RNG.normal(size=216))
    spec = PartitionSpec("rows")

    @jax.jit
    @jax.shard_map(mesh=MESH, in_specs=(spec, spec), out_specs=spec)
    def twice(S, x):
        return S.local_mv(S.local_mv(x))

    near(twice(S, x), np.asarray(S.mv(S.mv(x))))
    wrong = jax.shard_map(
        lambda S, x: S.mv(x), mesh=MESH, in_specs=(spec, spec), out_specs=spec
    )
    try:
        wrong(S, x)
    except ValueError as error:
        assert "local_mv" in str(error)
    else:
        raise AssertionError
    ok("inside shard_map")


def test_bytes():
    """What is exchanged is what the operator says: messages, or one `all_to_all`."""
    A = poisson(8)
    for matrix, order, kinds in [
        (A, "given", {"collective-permute"}),
        (A, "bisection", {"collective-permute"}),
        (random_matrix(64, 64, 0.5, np.float32), "given", {"all-to-all"}),
    ]:
        S = sharded(matrix, order=order)
        x = S.pattern.distribute(np.ones(matrix.shape[0], matrix.dtype))
        found = collectives(lambda S, x: S.mv(x), S, x)
        assert {kind for _, kind in found} == kinds, found
        assert sent_bytes(found) == S.bytes_received > 0, (found, S.bytes_received)
        back = collectives(lambda S, x: S.T.mv(x), S, x)
        assert sent_bytes(back) == S.bytes_received
        # far less than all of x
    assert sharded(A, order="given").bytes_received == 2 * 64 * 8
    ok("bytes")


SOLVERS = {
    "CG": lx.CG(1e-10, 1e-10),
    "MINRES": lx.MINRES(1e-10, 1e-10),
    "GMRES": lx.GMRES(1e-10, 1e-10, restart=30),
    "BiCGStab": lx.BiCGStab(1e-10, 1e-10),
    "LSMR": lx.LSMR(1e-12, 1e-12),
}
# Reductions in the whole program; those of one step are fewer. LSMR's has ‖x‖, as there
# are no more rows than columns.
REDUCTIONS = {"CG": 9, "MINRES": 11, "GMRES": 8, "BiCGStab": 10, "LSMR": 9}


def test_solvers():
    A = poisson(5, 100.0)
    b = RNG.normal(size=125)
    y = RNG.normal(size=125)
    # the gradient of ⟨y, A⁻¹ b⟩ by an entry is -zᵢ xⱼ, with A z = y, as A = Aᵀ
    truth, z = (np.asarray(spla.spsolve(A.tocsc(), each)) for each in (b, y))
    rows = np.repeat(np.arange(125), np.diff(A.indptr))
    S = sharded(A, order="bisection", tags=PSD)
    pattern, B, Y = S.pattern, S.pattern.distribute(b), S.pattern.distribute(y)
    slope = np.asarray(pattern.assemble(-z[rows] * truth[A.indices]))

    for name, solver in SOLVERS.items():

        def value(values, B, pattern, Y, solver=solver):
            operator = lx.ShardedSparseLinearOperator(values, pattern, PSD)
            solution = lx.linear_solve(operator, B, solver, throw=False)
            return Y @ solution.value, (solution.value, solution.successful)

        step = jax.jit(jax.value_and_grad(value, (0, 1), has_aux=True))
        (_, (x, fine)), (g, gb) = step(S.values, B, pattern, Y)
        assert fine, name
        near(pattern.collect(x), truth, 1e-8)
        near(g, slope, 1e-8)
        near(pattern.collect(gb), z, 1e-8)
        for array in (x, g, gb):
            assert array.sharding.is_equivalent_to(S.values.sharding, array.ndim), name
        found = collectives(lambda *a: value(*a)[1][0], S.values, B, pattern, Y)
        kinds = Counter(kind for _, kind in found)
        assert not kinds["all-gather"], (name, found)
        assert kinds["all-reduce"] <= REDUCTIONS[name], (name, kinds)
    ok("solvers")


def in_loops(text):
    """The all-reduces in the body of each loop of a compiled program that has any,
    those in branches aside: the arrays of each."""
    parts = re.split(r"\n(?=%|ENTRY)", text)
    bodies = re.findall(r" while\(.*body=%([\w.\-]+)", text)
    every = [
        re.findall(r"= (.+?) all-reduce(?:-start)?\(", part)
        for body in bodies
        for part in parts
        if part.startswith(f"%{body} ")
    ]
    return [reductions for reductions in every if reductions]


def test_reductions_of_a_step():
    """One with `single_reduction`, of six numbers; the solution is the same."""
    A, b = poisson(5, 100.0), RNG.normal(size=125)
    S = sharded(A, order="bisection", tags=PSD)
    B, truth = S.pattern.distribute(b), spla.spsolve(A.tocsc(), b)
    for M, usual in [(None, 2), (lx.Jacobi(), 4), (lx.AdditiveSchwarz(), 4)]:
        for single, count in [(False, usual), (True, 1)]:
            solver = lx.CG(1e-10, 0.0, preconditioner=M, single_reduction=single)

            def solve(S, B, solver=solver):
                return lx.linear_solve(S, B, solver, throw=False).value

            compiled = jax.jit(solve).lower(S, B).compile()
            (found,) = in_loops(compiled.as_text() or "")
            assert len(found) == count, (M, single, found)
            if single:
                assert found[0].count("f64[]") == 6, found
            near(S.pattern.collect(compiled(S, B)), truth, 1e-8)
    ok("reductions of a step")


def test_same_as_one_device():
    """Gradients of one and of eight devices, at 1e-12."""
    A, b = poisson(5, 100.0), RNG.normal(size=125)
    found = []
    for p in (1, 8):
        S = sharded(A, mesh_of(p), order="bisection")
        B = S.pattern.distribute(b)

        def norm(v, pattern, B):
            operator = lx.ShardedSparseLinearOperator(pattern.assemble(v), pattern, PSD)
            solver = lx.CG(1e-15, 1e-15, preconditioner=lx.Jacobi())
            x = lx.linear_solve(operator, B, solver, throw=False).value
            return jnp.sum(x**2)

        found.append(np.asarray(jax.jit(jax.grad(norm))(A.data, S.pattern, B)))
    near(found[0], found[1], 1e-12)
    ok("same as one device")


def test_preconditioners():
    """M by its definition, of real and complex matrices, and its transposes."""
    A = poisson(4) + 0.3 * random_matrix(64, 64, 0.05, complex)
    b = RNG.normal(size=64) + 1j * RNG.normal(size=64)
    for overlap, restricted, coarse, p in [
        (0, False, 0, 4),
        (1, False, 2, 4),
        (1, True, 0, 3),
    ]:
        S = sharded(sp.csr_array(A), mesh_of(p), order="bisection", overlap=overlap)
        q, B = S.pattern.blocks[0], S.pattern.distribute(b)
        matrix = np.asarray(S.as_matrix())
        M = np.zeros_like(matrix)
        for d in range(p):
            own = np.arange(q * d, q * (d + 1))
            near_by = own
            if overlap:
                near_by = np.union1d(own, np.flatnonzero((matrix[own] != 0).any(0)))
            inverse = np.zeros_like(matrix)
            block = np.ix_(near_by, near_by)
            inverse[block] = np.linalg.inv(matrix[block])
            if restricted:
                inverse[np.setdiff1d(near_by, own)] = 0
            M = M + inverse
        if coarse:
            piece = np.arange(p * q) % q * coarse // q + np.arange(p * q) // q * coarse
            R = np.eye(p * coarse)[:, piece]
            R[:, 64:] = 0
            M = M + R.T @ np.linalg.inv(R @ matrix @ R.T) @ R
        recipe = lx.AdditiveSchwarz(overlap, restricted, coarse)
        got = recipe.as_operator(S)
        near(got.mv(B), M @ np.asarray(B), 1e-11)
        near(got.T.mv(B), M.T @ np.asarray(B), 1e-11)
        near(got.H.mv(B), M.conj().T @ np.asarray(B), 1e-11)
        near(lx.conj(got).mv(B), M.conj() @ np.asarray(B), 1e-11)
        solver = lx.GMRES(1e-10, 1e-10, preconditioner=recipe)
        solution = lx.linear_solve(S, B, solver)
        near(S.pattern.collect(solution.value), spla.spsolve(A.tocsc(), b), 1e-8)
    ok("preconditioners")


def test_preconditioned_steps():
    """Solutions against SciPy; blocks, and then overlap, take steps away."""
    A, b = poisson(8), RNG.normal(size=512)
    S = sharded(A, order="bisection", overlap=1, tags=PSD)
    B, truth = S.pattern.distribute(b), spla.spsolve(A.tocsc(), b)
    steps = {}
    for name, M in {
        "Jacobi": lx.Jacobi(),
        "block Jacobi": lx.AdditiveSchwarz(),
        "overlap": lx.AdditiveSchwarz(1),
        "two levels": lx.AdditiveSchwarz(1, coarse=4),
    }.items():
        solver = lx.CG(1e-8, 1e-8, preconditioner=M, criterion="two_norm")
        solution = lx.linear_solve(S, B, solver, throw=False)
        assert solution.successful, name
        near(S.pattern.collect(solution.value), truth, 1e-6)
        steps[name] = int(solution.stats["num_steps"])
    assert steps["overlap"] < steps["block Jacobi"] < steps["Jacobi"], steps
    ok("preconditioned steps")


def test_explicit_axes():
    """Products, solutions and gradients, sharded like their inputs by their types."""
    A, b = poisson(4, 10.0), RNG.normal(size=64)
    mesh = mesh_of(8, AxisType.Explicit)
    S = sharded(A, mesh, order="bisection", overlap=1, tags=PSD)
    B, truth = S.pattern.distribute(b), spla.spsolve(A.tocsc(), b)
    spec = PartitionSpec("rows")
    assert jax.typeof(B).sharding.spec == spec
    for product, want in [
        (S.mv, A @ b),
        (S.T.mv, A.T @ b),
        (jax.jit(lambda x: S.mv(x)), A @ b),
    ]:
        near(S.pattern.collect(product(B)), want)
        assert jax.typeof(product(B)).sharding.spec == spec
    near(S.pattern.collect(lx.diagonal(S)), A.diagonal())
    schwarz = lx.AdditiveSchwarz(1, coarse=2)
    for solver in (
        lx.CG(1e-12, 0.0, preconditioner=lx.Jacobi()),
        lx.GMRES(1e-12, 0.0, preconditioner=schwarz),
    ):

        def value(values, S, B, solver=solver):
            S = lx.ShardedSparseLinearOperator(values, S.pattern, PSD)
            x = lx.linear_solve(S, B, solver, throw=False).value
            return jnp.sum(x), x

        run = jax.jit(jax.value_and_grad(value, has_aux=True))
        (_, x), g = run(S.values, S, B)
        near(S.pattern.collect(x), truth, 1e-10)
        assert jax.typeof(x).sharding.spec == spec
        assert jax.typeof(g).sharding.spec == PartitionSpec("rows", None)
        z = spla.spsolve(A.tocsc(), np.ones(64))
        rows = np.repeat(np.arange(64), np.diff(A.indptr))
        near(g, np.asarray(S.pattern.assemble(-z[rows] * truth[A.indices])), 1e-10)
    ok("explicit axes")


def test_least_squares_with_jacobi():
    """The norms of columns, of A and of Aᵀ, without a matrix; and LSMR with them."""
    A = random_matrix(70, 30, 0.2, complex) * np.logspace(-3, 3, 30)
    A = sp.csr_array(A)
    S = sharded(A, order="bisection")
    for operator, norms, own in [
        (S, spla.norm(A, axis=0), S.pattern.columns),
        (S.T, spla.norm(A, axis=1), S.pattern.rows),
    ]:
        M = lx.Jacobi().right_factor(operator)
        got, own = np.asarray(lx.diagonal(M)), np.asarray(own).reshape(-1)
        near(got[own >= 0], 1 / norms[own[own >= 0]])
        near(got[own < 0], 1.0)
    b = RNG.normal(size=70) + 0j
    solver = lx.LSMR(1e-12, 0.0, preconditioner=lx.Jacobi())
    solve = jax.jit(lambda S, B: lx.linear_solve(S, B, solver, throw=False).value)
    B = S.pattern.distribute(b)
    truth = np.linalg.lstsq(A.toarray(), b)[0]
    near(S.pattern.collect(solve(S, B)) / truth, np.ones(30), 1e-7)
    assert "all-gather" not in dict(map(reversed, collectives(solve, S, B)))
    ok("least squares with Jacobi")


def test_linearise_and_bounds():
    """A sharded operator linearises to itself; histories and error bounds are those of
    the unsharded system."""
    A, b = poisson(6, 100.0), RNG.normal(size=216)
    S = sharded(A, order="bisection", tags=PSD)
    assert lx.linearise(S) is S
    B, truth = S.pattern.distribute(b), spla.spsolve(A.tocsc(), b)
    solver = lx.CG(1e-6, 0.0, preconditioner=lx.Jacobi(), history=True)
    solution = jax.jit(lambda S, B: lx.linear_solve(S, B, solver, throw=False))(S, B)
    matrix = lx.SparseLinearOperator.from_scipy(A, PSD)
    alone = lx.linear_solve(matrix, jnp.asarray(b), solver)
    steps = int(solution.stats["num_steps"])
    assert steps == int(alone.stats["num_steps"])
    histories = [
        np.asarray(s.stats["residuals"])[: steps + 1] for s in (solution, alone)
    ]
    near(*histories, 1e-10)
    bounds = lx.error_bounds(S, B, solution, solver, matrix=False)
    want = lx.error_bounds(matrix, jnp.asarray(b), alone, solver, matrix=False)
    x = np.asarray(S.pattern.collect(solution.value))
    error = np.linalg.norm(x - truth) / np.linalg.norm(truth)
    assert 0 < error <= bounds.forward_error <= 1e-3, (error, bounds)
    near(bounds.forward_error / want.forward_error, 1.0, 0.2)
    ok("linearise and bounds")


def test_errors():
    A: Any = lx.SparsityPattern([0], [0], (2, 2))
    S, manual = sharded(poisson(2)), mesh_of(8, AxisType.Manual)
    for call, said in [
        (lambda: lx.ShardedSparsityPattern(A, MESH, "columns"), "axis"),
        (lambda: lx.ShardedSparsityPattern(A, A), "mesh"),
        (lambda: lx.ShardedSparsityPattern(A, manual), "Auto"),
        (lambda: lx.ShardedSparsityPattern(A, MESH, order="best"), "bisection"),
        (lambda: lx.ShardedSparsityPattern(A, MESH, order=[0, 0]), "permutation"),
        (lambda: lx.ShardedSparsityPattern(A, MESH, overlap=2), "overlap"),
        (lambda: lx.ShardedSparseLinearOperator(S.values[0], S.pattern), "assemble"),
        (lambda: lx.ShardedSparseLinearOperator(S.values, A), "from_operator"),
        (lambda: S.pattern.assemble(jnp.ones(3)), "shape"),
        (lambda: S.pattern.distribute(jnp.ones(3)), "shape"),
        (lambda: S.pattern.collect(jnp.ones(3)), "shape"),
        (lambda: lx.AdditiveSchwarz(1).as_operator(S), "overlap=1"),
        (lambda: lx.AdditiveSchwarz(2), "overlap"),
        (
            lambda: lx.AdditiveSchwarz().as_operator(lx.materialise(EYE)),
            "ShardedSparseLinearOperator",
        ),
    ]:
        try:
            call()
        except ValueError as error:
            assert said in str(error), (said, error)
        else:
            raise AssertionError(said)
    singular = sharded(sp.csr_array(np.diag(np.arange(8.0))), tags=PSD)
    solver = lx.CG(1e-8, 1e-8, preconditioner=lx.AdditiveSchwarz())
    solution = lx.linear_solve(singular, jnp.ones(8), solver, throw=False)
    assert solution.status == "preconditioner_failed"
    ok("errors")


def run_tests(tests):
    """Those named on the command line, or all."""
    chosen = sys.argv[1:]
    for name, test in list(tests.items()):
        if name.startswith("test_") and (not chosen or name in chosen):
            start = time.time()
            test()
            print(f"  {name} {time.time() - start:.1f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    run_tests(globals())
