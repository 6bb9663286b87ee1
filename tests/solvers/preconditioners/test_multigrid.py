"""Multigrid: the hierarchies of AMG, and those that are given."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lx_operators as lo
import lx_solvers as lxs
import numpy as np
import pytest
import scipy.sparse

from .problems import PSD, needs_pyamg, poisson, solved, steps, succeeded


def test_amg(laplacian):
    """Iterations that do not grow, and values that are new under `jit`."""
    amg = lxs.AMG().setup(laplacian)
    head, *levels, grid, entries = amg.hierarchy().splitlines()
    assert head.split() == ["level", "unknowns", "entries", "a", "row"]
    assert levels[0].split()[1:3] == ["1024", str(laplacian.values.size)]
    unknowns, sizes = np.array([line.split()[1:3] for line in levels], int).T
    assert float(grid.split()[-1]) == round(unknowns.sum() / 1024, 2)
    assert float(entries.split()[-1]) == round(sizes.sum() / sizes[0], 2)
    small = steps(laplacian, amg)
    large = lo.SparseLinearOperator.from_scipy(poisson(64), PSD)
    assert steps(large, lxs.AMG()) <= small + 4 <= 16
    solver = lxs.CG(1e-8, 0.0, criterion="two_norm", preconditioner=amg)

    @jax.jit
    def solve(values):
        operator = lo.SparseLinearOperator(values, laplacian.pattern, PSD)
        x, _, stats = solver.compute(
            solver.init(operator, {}), jnp.ones(operator.in_size()), {}
        )
        return x, stats["num_steps"]

    shifted = laplacian.values + jnp.where(
        laplacian.pattern.rows == laplacian.pattern.columns, 0.5, 0.0
    )
    x, count = solve(shifted)
    A = poisson(32) + 0.5 * scipy.sparse.eye_array(1024)
    np.testing.assert_allclose(A @ x, np.ones(1024), atol=1e-6)
    assert count <= small


@needs_pyamg
def test_amg_of_a_pattern(laplacian):
    """Values may be traced when the hierarchy is made, the pattern not."""

    @jax.jit
    def solve(values):
        operator = lo.SparseLinearOperator(values, laplacian.pattern, PSD)
        solver = lxs.CG(1e-8, 0.0, criterion="two_norm", preconditioner=lxs.AMG())
        solver = solver.setup(operator)
        b = jnp.ones(operator.in_size())
        return solver.compute(solver.init(operator, {}), b, {})

    x, result, stats = solve(3 * laplacian.values)
    assert result == succeeded and stats["num_steps"] <= 14
    np.testing.assert_allclose(3 * (poisson(32) @ x), np.ones(1024), atol=1e-6)


@needs_pyamg
def test_amg_bounds_of_smoothers(laplacian):
    """They hold, with their margin, for the values of the set-up and for others."""
    rng, pattern = np.random.default_rng(0), laplacian.pattern
    c = 10.0 ** rng.uniform(-2, 2, 1024)
    i, j = np.asarray(pattern.rows), np.asarray(pattern.columns)
    edges = np.where(i == j, 0, np.sqrt(c[i] * c[j]) * np.asarray(laplacian.values))
    rest = np.bincount(i, -edges, 1024)[i] + 1e-3
    jumps = jnp.asarray(np.where(i == j, rest, edges))
    amg = lxs.AMG(max_coarse=20).setup(laplacian)
    init = eqx.filter_jit(lambda A: amg.init(A, {}))
    for values in (laplacian.values, jumps):
        state = init(lo.SparseLinearOperator(values, pattern, PSD))
        for level in state.levels:
            A = np.asarray(lo.materialise(level.operator).as_matrix())
            root = np.sqrt(np.diag(A))
            most = np.linalg.eigvalsh(A / np.outer(root, root))[-1]
            assert most <= 1.25 * level.before.state.most <= 2.6 * most


@needs_pyamg
def test_elasticity():
    """With the rigid body modes fewer steps than with constants."""
    import pyamg

    matrix, modes = pyamg.gallery.linear_elasticity((20, 20))
    operator = lo.SparseLinearOperator.from_scipy(scipy.sparse.csr_array(matrix), PSD)
    u = np.asarray(modes).reshape(400, 2, 3)
    apart = u - u.mean(0)
    assert np.linalg.matrix_rank(u.reshape(800, 3)) == 3  # two shifts and a rotation
    assert np.allclose(apart[:, :, :2], 0) and not np.allclose(apart[:, :, 2], 0)
    without = steps(operator, lxs.AMG(block_size=2, max_coarse=20))
    near = lxs.AMG(block_size=2, near_null_space=modes, max_coarse=20)
    assert steps(operator, near) <= min(without - 2, 12)


@needs_pyamg
def test_amg_galerkin(laplacian):
    """Coarse operators are R A P, for new values as well: Hermitian ones, of which one
    triangle is computed, and others."""
    n, phase = laplacian.in_size(), np.exp(1j * np.arange(laplacian.in_size()))
    matrix = np.asarray(laplacian.as_matrix())
    turned = phase[:, None] * matrix * phase.conj()
    upwind = lo.materialise(laplacian).to_scipy() + scipy.sparse.diags_array(
        np.full(n - 1, 0.3), offsets=1
    )
    for matrix, tags in (
        (laplacian.to_scipy(), PSD),
        (scipy.sparse.csr_array(turned), PSD),
        (scipy.sparse.csr_array(upwind), ()),
    ):
        A = lo.SparseLinearOperator.from_scipy(matrix, tags)
        amg = lxs.AMG(max_coarse=20, smoother=lxs.Jacobi()).setup(A)
        assert (amg.transfers[0].RAP.mirror is None) == (not tags)
        A = lo.SparseLinearOperator(A.values * (1 + 1e-3), A.pattern, tags)
        for transfer in amg.transfers:
            R, P = (lo.materialise(x).to_scipy() for x in (transfer.R, transfer.P))
            before = A.to_scipy()
            host = transfer.on_host(A)
            A = transfer.coarse(A)
            assert abs(A.to_scipy() - R @ before @ P).max() < 1e-13
            np.testing.assert_allclose(host.values, A.values, rtol=0, atol=1e-13)


@needs_pyamg
def test_amg_memory(laplacian):
    """What it takes to set up again: 12 bytes a number, and a third of them padding at
    most; of a Hermitian operator half the products R[I, i] A[i, j] P[j, J]."""
    (transfer, *_) = lxs.AMG(max_coarse=20).setup(laplacian).transfers
    R, P = (abs(lo.materialise(x).to_scipy()) for x in (transfer.R, transfer.P))
    R, P, A = R.astype(bool), P.astype(bool), laplacian.to_scipy().astype(bool)
    products = (R.astype(int) @ A.astype(int) @ P.astype(int)).sum()
    G = transfer.RAP
    assert G.weights.nbytes + G.reads.nbytes == 12 * G.weights.size
    assert np.count_nonzero(G.weights) < 0.7 * products
    assert G.weights.size < 1.5 * np.count_nonzero(G.weights)


@needs_pyamg
@pytest.mark.parametrize(
    ("method", "cycle"),
    [("ruge_stuben", "V"), ("smoothed_aggregation", "W")],
)
def test_amg_variants(laplacian, method, cycle):
    recipe = lxs.AMG(method, cycle=cycle, max_coarse=10)
    assert steps(laplacian, recipe) <= 14


@needs_pyamg
def test_amg_of_what_has_no_levels():
    """A diagonal matrix is not coarsened: it is solved, unless it would be dense and
    large. Values that are not finite are told by the solver."""
    solver = lxs.CG(1e-8, 0.0, preconditioner=lxs.AMG("ruge_stuben"))
    for n in (1, 300):
        d = jnp.arange(1.0, n + 1)
        index = jnp.arange(n)
        operator = lo.SparseLinearOperator.from_coo(d, index, index, (n, n), PSD)
        x, result, _ = solved(solver.setup(operator), operator, d)
        assert result == succeeded
        np.testing.assert_allclose(x, np.ones(n), rtol=1e-7)
    broken = lo.SparseLinearOperator(d.at[3].set(jnp.nan), operator.pattern, PSD)
    for method in ("ruge_stuben", "smoothed_aggregation"):
        assert lxs.AMG(method).as_operator(broken).verdict != 0
    n = 100_000
    large = lo.SparseLinearOperator.from_scipy(scipy.sparse.eye_array(n), PSD)
    with pytest.raises(ValueError, match="GiB"):
        lxs.AMG("ruge_stuben").as_operator(large)


@needs_pyamg
@pytest.mark.filterwarnings("ignore")  # of pyamg
def test_amg_without_a_diagonal(laplacian):
    """Values of which pyamg makes no levels: a failure of the solve, and no error of
    the set-up."""
    for values in (0 * laplacian.values, jnp.minimum(laplacian.values, 0)):
        broken = lo.SparseLinearOperator(values, laplacian.pattern, PSD)
        assert lxs.AMG().as_operator(broken).verdict != 0


@needs_pyamg
def test_amg_bad_input(laplacian):
    amg = lxs.AMG().setup(laplacian)
    other = lo.SparseLinearOperator.from_scipy(poisson(16), PSD)
    with pytest.raises(ValueError, match="set it up again"):
        amg.as_operator(other)
    with pytest.raises(ValueError, match="`SparseLinearOperator`"):
        lxs.AMG().as_operator(lo.MatrixLinearOperator(jnp.eye(3), PSD))
    with pytest.raises(ValueError, match="no hierarchy"):
        lxs.AMG().hierarchy()
    with pytest.raises(ValueError, match="`cycle`"):
        lxs.AMG(cycle="X")
    with pytest.raises(ValueError, match="`method`"):
        lxs.AMG("aggregation")

    def traced(operator):
        return lxs.AMG().as_operator(operator).mv(operator.values[:1024])

    with pytest.raises(ValueError, match="outside of `jit`"):
        jax.eval_shape(traced, laplacian)


def test_traced_pattern_is_an_error(laplacian):
    def traced(operator):
        return lxs.SSOR().as_operator(operator).mv(operator.values[:1024])

    with pytest.raises(ValueError, match="outside of `jit`"):
        jax.eval_shape(traced, laplacian)


def test_multigrid():
    """-u'' on points that are halved: a few iterations, whatever their number."""

    def chain(n):
        off = jnp.full(n - 1, -((n + 1.0) ** 2))
        A = lo.TridiagonalLinearOperator(jnp.full(n, 2 * (n + 1.0) ** 2), off, off)
        return lo.TaggedLinearOperator(A, PSD)

    def interpolate(u):
        padded = jnp.pad(u, 1)
        between = (padded[:-1] + padded[1:]) / 2
        return jnp.stack([between, padded[1:]], axis=1).reshape(-1)[:-1]

    def levels(n):
        while n > 3:
            n = n // 2
            yield lo.FunctionLinearOperator(interpolate, jnp.zeros(n))

    for n in (15, 63):
        P = list(levels(n))
        A = [chain(p.in_size()) for p in P]
        given = lxs.Multigrid(P, A, [p.T / 2 for p in P])
        assert steps(chain(n), given) <= 9
    sizes = [line.split()[1] for line in given.hierarchy(chain(63)).splitlines()[1:-1]]
    assert sizes == ["63", "31", "15", "7", "3"]
    assert given.hierarchy(chain(63)).endswith("grid complexity 1.89")
    assert steps(chain(15), lxs.Multigrid(list(levels(15))[:2])) <= 9
    with pytest.raises(ValueError, match="as many as"):
        lxs.Multigrid(P, A[:1])
    with pytest.raises(ValueError, match="does not fit"):
        lxs.Multigrid(P).as_operator(chain(7))
