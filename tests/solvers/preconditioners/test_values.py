"""M of each preconditioner beside the same in NumPy, and what it is worth."""

from importlib.util import find_spec

import equinox as eqx
import jax
import jax.numpy as jnp
import lx_operators as lo
import lx_solvers as lxs
import numpy as np
import pytest
import scipy.sparse

PSD = lo.positive_semidefinite_tag
N = 12
needs_pyamg = pytest.mark.skipif(find_spec("pyamg") is None, reason="needs pyamg")
succeeded = lxs.RESULTS.successful


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def poisson(k):
    """The Laplacian of a square of k by k points."""
    T = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(k, k))
    eye = scipy.sparse.eye_array(k)
    return scipy.sparse.csr_array(scipy.sparse.kron(eye, T) + scipy.sparse.kron(T, eye))


def steps(operator, recipe, solver=lxs.CG, b=None):
    """To a residual of 1e-8, checked."""
    b = jnp.ones(operator.in_size()) if b is None else b
    solver = solver(1e-8, 0.0, criterion="two_norm", preconditioner=recipe)
    x, result, stats = _solved(solver.setup(operator), operator, b)
    assert result == succeeded
    assert np.linalg.norm(b - operator.mv(x)) <= 1.1e-8 * np.linalg.norm(b)
    return int(stats["num_steps"])


@eqx.filter_jit
def _solved(solver, operator, b):
    return solver.compute(solver.init(operator, {}), b, {})


@pytest.fixture(scope="module")
def laplacian():
    return lo.SparseLinearOperator.from_scipy(poisson(32), PSD)


@pytest.fixture
def sparse(rng):
    """A sparse matrix in the order in which it is eliminated, and back."""
    mask = rng.random((N, N)) < 0.25
    mask = mask | mask.T | np.eye(N, dtype=bool)
    A = np.where(mask, 0.2 * rng.standard_normal((N, N)), 0) + 3 * np.eye(N)
    pattern = lo.SparsityPattern.from_dense(mask)
    operator = lo.SparseLinearOperator.from_dense(jnp.asarray(A), pattern=pattern)
    order = np.asarray(lxs.SSOR().setup(operator).order.order)
    back = np.argsort(order)
    both = np.ix_(order, order)
    return operator, A[both], mask[both], lambda M: M[np.ix_(back, back)]


def matrix_of(recipe, operator):
    recipe = recipe.setup(operator)
    matrix = eqx.filter_jit(lambda recipe, A: recipe.as_operator(A).as_matrix())
    return np.asarray(matrix(recipe, operator))


@pytest.mark.parametrize("modified", [0.0, 0.7])
def test_incomplete_lu(sparse, modified):
    operator, A, mask, back = sparse
    for k in range(N):
        for i in range(k + 1, N):
            if not mask[i, k]:
                continue
            A[i, k] /= A[k, k]
            for j in range(k + 1, N):
                if mask[i, j]:
                    A[i, j] -= A[i, k] * A[k, j]
                elif mask[k, j]:
                    A[i, i] -= modified * A[i, k] * A[k, j]
    M = np.linalg.inv((np.tril(A, -1) + np.eye(N)) @ np.triu(A))
    got = matrix_of(lxs.IncompleteLU(modified), operator)
    np.testing.assert_allclose(got, back(M), atol=1e-14)


def test_relaxation(sparse):
    operator, A, _, back = sparse
    L, D, U, ω = np.tril(A, -1), np.diag(np.diag(A)), np.triu(A, 1), 1.3
    M = ω * np.linalg.inv(D + ω * L)
    got = matrix_of(lxs.GaussSeidel(ω), operator)
    np.testing.assert_allclose(got, back(M), atol=1e-14)
    M = (2 - ω) * np.linalg.inv(D + ω * U) @ D @ M
    np.testing.assert_allclose(matrix_of(lxs.SSOR(ω), operator), back(M), atol=1e-14)


def test_order_is_of_the_pattern(sparse, laplacian):
    """No two coupled unknowns of one colour; two colours for a chessboard."""
    operator, _, mask, _ = sparse
    order = lxs.SSOR().setup(operator).order
    place, starts = np.asarray(order.place), np.asarray(order.starts)
    colour = np.searchsorted(starts, place, side="right")
    rows, columns = np.asarray(operator.pattern.rows), operator.pattern.columns
    assert np.all((colour[rows] != colour[columns]) | (rows == columns))
    assert len(lxs.SSOR().setup(laplacian).order.starts) == 3


def test_incomplete_cholesky_shifts():
    """Where a pivot is not positive, the diagonal is raised, and M is definite."""
    n = 9  # no M-matrix, and barely definite
    apart = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    apart = np.minimum(apart, n - apart)
    A = np.where(apart == 2, 0.3, 0) + np.where(apart == 1, 0.9, 0)
    A += (1e-3 - np.linalg.eigvalsh(A)[0]) * np.eye(n)
    operator = lo.SparseLinearOperator.from_dense(jnp.asarray(A), PSD)
    recipe = lxs.IncompleteCholesky().setup(operator)
    state = recipe.init(operator, {})
    assert state.shift > 0
    assert np.linalg.eigvalsh(matrix_of(recipe, operator))[0] > 0
    lost = lo.SparseLinearOperator.from_dense(jnp.diag(jnp.array([1.0, -1.0])), PSD)
    recipe = lxs.IncompleteCholesky()
    assert recipe.as_operator(lost).verdict != 0


def test_shift_is_told(rng):
    """Where an incomplete pivot is zero, the diagonal is raised; the operator is far
    from singular."""
    apart = np.abs(np.subtract.outer(np.arange(N), np.arange(N)))
    mask = np.minimum(apart, N - apart) <= 2
    A = np.where(mask, rng.standard_normal((N, N)), 0) + 3 * np.eye(N)
    operator = lo.SparseLinearOperator.from_dense(jnp.asarray(A))
    order = np.asarray(lxs.SSOR().setup(operator).order.order)
    w = A[np.ix_(order, order)]
    mask = w != 0
    for k in range(N):
        for i in np.flatnonzero(mask[:, k] & (np.arange(N) > k)):
            w[i, k] /= w[k, k]
            for j in np.flatnonzero(mask[i] & (np.arange(N) > k)):
                w[i, j] -= w[i, k] * w[k, j]
    A[order[-1], order[-1]] -= w[-1, -1]
    assert np.linalg.cond(A) < 1000
    hard = lo.SparseLinearOperator.from_dense(jnp.asarray(A), pattern=operator.pattern)
    solver = lxs.GMRES(1e-8, 0.0, preconditioner=lxs.IncompleteLU()).setup(hard)
    x, result, stats = _solved(solver, hard, jnp.ones(N))
    assert result == succeeded
    assert 1e-3 <= stats["preconditioner_shift"] < 1
    np.testing.assert_allclose(A @ x, np.ones(N), atol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 1e200, 1e-200])
def test_right_factor(rng, scale):
    """Of a full pattern the factors are complete: A R⁻¹ has orthonormal columns, but
    for one of zeros."""
    A = scale * rng.standard_normal((7, 4)) * [1, 1e50, 0, 1e-50]
    pattern = lo.SparsityPattern.from_dense(np.ones((7, 4)))
    operator = lo.SparseLinearOperator.from_dense(jnp.asarray(A), pattern=pattern)
    recipe = lxs.IncompleteCholesky().setup(operator)
    R = recipe.right_factor(operator)
    assert R.verdict == 0
    Q = A @ np.asarray(R.as_matrix())
    np.testing.assert_allclose(Q.T @ Q, np.diag(np.diag(Q.T @ Q).round()), atol=1e-12)
    assert np.trace(Q.T @ Q) == pytest.approx(3)
    np.testing.assert_allclose(R.T.as_matrix(), R.as_matrix().T, rtol=1e-12)


def test_least_squares_with_incomplete_factors(rng):
    """Fewer steps than with the lengths of columns."""
    D = scipy.sparse.diags_array([-1.0, 1.0], offsets=[0, 1], shape=(12, 12))
    eye = scipy.sparse.eye_array(12)
    A = scipy.sparse.vstack(
        [scipy.sparse.kron(eye, D), scipy.sparse.kron(D, eye), 0.01 * np.eye(144)]
    )
    operator = lo.SparseLinearOperator.from_scipy(scipy.sparse.csr_array(A))
    b = rng.standard_normal(A.shape[0])
    counts = {}
    for recipe in (lxs.Jacobi(), lxs.IncompleteCholesky()):
        solver = lxs.LSMR(1e-9, 0.0, preconditioner=recipe).setup(operator)
        x, result, stats = _solved(solver, operator, jnp.asarray(b))
        assert result == succeeded
        counts[type(recipe)] = int(stats["num_steps"])
        wanted = np.linalg.lstsq(A.toarray(), b)[0]
        np.testing.assert_allclose(x, wanted, atol=1e-5 * abs(wanted).max())
    assert counts[lxs.IncompleteCholesky] < 0.75 * counts[lxs.Jacobi]


def test_right_factor_of_a_square_operator(rng):
    """M is one: M Mᴴ ≈ (AᴴA)⁻¹."""
    A = rng.standard_normal((6, 6))
    operator = lo.MatrixLinearOperator(jnp.asarray(A))
    solver = lxs.LSQR(1e-8, 0.0, preconditioner=lxs.LU())
    x, result, stats = _solved(solver, operator, jnp.ones(6))
    assert result == succeeded and stats["num_steps"] <= 2
    np.testing.assert_allclose(A @ x, np.ones(6), atol=1e-6)
    _, result, _ = _solved(solver, 0 * operator, jnp.ones(6))
    assert result == lxs.RESULTS.preconditioner_failed
    tall = lo.MatrixLinearOperator(jnp.ones((6, 2)))
    with pytest.raises(ValueError, match="no such form"):
        lxs.LSQR(preconditioner=lxs.LU()).init(tall, {})


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("scale", [1.0, 1e200, 1e-200])
def test_gram_of_columns(rng, sparse, scale):
    """The right factor of Jacobi makes columns of length one, zeros aside."""
    A = scale * rng.standard_normal((7, 4)) * [1, 1e50, 0, 1e-50]
    operator = lo.MatrixLinearOperator(jnp.asarray(A))
    if sparse:
        operator = lo.SparseLinearOperator.from_scipy(scipy.sparse.csr_array(A))
    R = lxs.Jacobi().right_factor(operator)
    norms = np.linalg.norm(A @ R.as_matrix(), axis=0)
    np.testing.assert_allclose(norms, [1, 1, 0, 1], atol=1e-14)


def test_what_is_large_is_not_formed():
    """A sparse matrix stays sparse; of a function the matrix is not formed unasked."""
    n = 200_000
    operator = lo.SparseLinearOperator.from_scipy(2 * scipy.sparse.eye_array(n))
    R = lxs.Jacobi().right_factor(operator)
    np.testing.assert_array_equal(R.mv(jnp.ones(n)), np.full(n, 0.5))
    function = lo.FunctionLinearOperator(jnp.negative, operator.in_structure())
    with pytest.raises(ValueError, match="GiB"):
        lxs.Jacobi().right_factor(function)
    with pytest.raises(ValueError, match="`BlockJacobi`.*GiB.*sparse"):
        lxs.BlockJacobi(2).as_operator(function)


def test_block_jacobi(rng):
    A = rng.standard_normal((7, 7)) + 4 * np.eye(7)
    wanted = np.zeros((7, 7))
    for start in (0, 3, 6):
        block = slice(start, start + 3)
        wanted[block, block] = np.linalg.inv(A[block, block])
    got = matrix_of(lxs.BlockJacobi(3), lo.MatrixLinearOperator(jnp.asarray(A)))
    np.testing.assert_allclose(got, wanted, atol=1e-13)
    first, second = (slice(0, 3), slice(3, 7))
    grid = [[A[i, j] for j in (first, second)] for i in (first, second)]
    blocks = [[lo.MatrixLinearOperator(jnp.asarray(x)) for x in row] for row in grid]
    by_leaf = lo.BlockLinearOperator(blocks)
    wanted = scipy.linalg.block_diag(*(np.linalg.inv(grid[i][i]) for i in (0, 1)))
    got = matrix_of(lxs.BlockJacobi(), by_leaf)
    np.testing.assert_allclose(got, wanted, atol=1e-13)
    with pytest.raises(ValueError, match="give a `size`"):
        matrix_of(lxs.BlockJacobi(), lo.MatrixLinearOperator(jnp.asarray(A)))
    with pytest.raises(ValueError, match="at least 1"):
        lxs.BlockJacobi(0)


def test_indefinite_block_fails():
    """A block of an operator that is tagged definite, and is not."""
    A = jnp.array([[1.0, 2.0], [2.0, 1.0]])
    definite = lo.MatrixLinearOperator(A, PSD)
    assert lxs.BlockJacobi(2).as_operator(definite).verdict != 0
    plain = lo.MatrixLinearOperator(A)
    assert lxs.BlockJacobi(2).as_operator(plain).verdict == 0


def test_chebyshev(rng):
    """The residual polynomial is Chebyshev's, on the interval given."""
    a, b, degree = 1.0, 9.0, 4
    λ = np.linspace(a, b, 6)
    operator = lo.TaggedLinearOperator(lo.DiagonalLinearOperator(jnp.asarray(λ)), PSD)
    M = matrix_of(lxs.Chebyshev(degree, bounds=(a, b)), operator)
    T = np.polynomial.chebyshev.Chebyshev.basis(degree)
    middle, half = (a + b) / 2, (b - a) / 2
    wanted = T((middle - λ) / half) / T(middle / half)
    np.testing.assert_allclose(1 - λ * np.diag(M), wanted, atol=1e-13)


@pytest.mark.parametrize("scaled", [False, True])
def test_lanczos_bound(laplacian, scaled):
    """Within a few percent, and not below the largest eigenvalue."""
    state = lxs.Chebyshev(scaled=scaled).init(laplacian, {})
    most = 8 * np.cos(np.pi / 66) ** 2 / (4 if scaled else 1)
    assert most <= state.most <= 1.15 * most


def kernel(n, noise):
    t = np.random.default_rng(0).uniform(size=(n, 2))
    squares = ((t[:, None] - t) ** 2).sum(-1)
    K = np.exp(-squares / 0.5) + noise * np.eye(n)
    return lo.MatrixLinearOperator(jnp.asarray(K), PSD)


@pytest.mark.parametrize(
    "recipe",
    [
        lxs.Nystrom(30, 1e-3),
        lxs.Nystrom(shift=1e-3),
        lxs.PivotedCholesky(30, 1e-3),
        lxs.PivotedCholesky(30),
    ],
    ids=repr,
)
def test_kernel_matrix(recipe):
    """A fifth of the steps at most."""
    operator = kernel(300, 1e-3)
    adaptive = isinstance(recipe, lxs.Nystrom) and recipe.rank is None
    most = 0.25 if adaptive else 0.2
    assert steps(operator, recipe) <= most * steps(operator, None)


def test_full_rank_is_exact(rng):
    """At full rank, M is the inverse, or a multiple of it."""
    A = rng.standard_normal((8, 8))
    A = A @ A.T + np.eye(8)
    operator = lo.MatrixLinearOperator(jnp.asarray(A), PSD)
    for recipe in (lxs.Nystrom(8, 0.5), lxs.PivotedCholesky(8, 0.5)):
        MA = matrix_of(recipe, operator) @ A
        np.testing.assert_allclose(MA, MA[0, 0] * np.eye(8), atol=1e-7 * abs(MA[0, 0]))


def test_deflation(rng):
    """The span is solved exactly: M A W = W, and A M A W = A W."""
    A = rng.standard_normal((8, 8)) + 5 * np.eye(8)
    W = rng.standard_normal((8, 3))
    M = matrix_of(
        lxs.Deflation(jnp.asarray(W)), lo.MatrixLinearOperator(jnp.asarray(A))
    )
    np.testing.assert_allclose(M @ A @ W, W, atol=1e-12)


def test_deflation_of_a_singular_operator():
    """Constants on the patches of a periodic chain, the null space among them."""
    n = 64
    A = 2 * np.eye(n) - np.roll(np.eye(n), 1, 0) - np.roll(np.eye(n), -1, 0)
    operator = lo.MatrixLinearOperator(jnp.asarray(A), PSD)
    t = jnp.arange(n, dtype=float)
    b = jnp.sin(2 * jnp.pi * t / n) + jnp.cos(14 * t)
    b = b - b.mean()
    blocks = np.arange(n) // 4
    assert steps(operator, lxs.Deflation(blocks=blocks), b=b) < 25


def test_two_level(laplacian):
    grid = np.arange(32) // 4
    patches = np.eye(64)[(8 * grid[:, None] + grid).ravel()]
    plain = steps(laplacian, lxs.Chebyshev(3))
    both = steps(laplacian, lxs.TwoLevel(jnp.asarray(patches), lxs.Chebyshev(3)))
    assert both < plain


def test_combinations(rng):
    n = 8
    A = rng.standard_normal((n, n)) + 4 * np.eye(n)
    dense = lo.MatrixLinearOperator(jnp.asarray(A))
    parts = [lxs.Jacobi(0.5), lxs.BlockJacobi(4)]
    one, two = (matrix_of(part, dense) for part in parts)
    got = matrix_of(lxs.Additive(*parts), dense)
    np.testing.assert_allclose(got, one + two, atol=1e-12)
    got = np.eye(n) - matrix_of(lxs.Multiplicative(*parts), dense) @ A
    wanted = (np.eye(n) - two @ A) @ (np.eye(n) - one @ A)
    np.testing.assert_allclose(got, wanted, atol=1e-12)


class Lost(lxs.AbstractPreconditioner):
    """It fails, and is finite."""

    def init(self, operator, options):
        return None

    def apply(self, state, vector):
        return vector

    def transpose(self, state, options):
        return state, options

    conj = transpose

    def tags(self, operator):
        return frozenset((PSD,))

    def status(self, state):
        return lxs.RESULTS.preconditioner_failed


@pytest.mark.parametrize(
    "recipe",
    [
        lxs.Additive(lxs.Jacobi(), Lost()),
        lxs.Multiplicative(lxs.Jacobi(), Lost(), symmetric=True),
        lxs.Deflation(blocks=np.arange(4) // 2, inner=Lost()),
        lxs.TwoLevel(np.ones((4, 1)), Lost()),
        lxs.Multigrid(
            [lo.MatrixLinearOperator(jnp.repeat(jnp.eye(2), 2, 0))], smoother=Lost()
        ),
        pytest.param(lxs.AMG(smoother=Lost(), max_coarse=2), marks=needs_pyamg),
    ],
    ids=lambda recipe: type(recipe).__name__,
)
def test_failure_of_a_part_is_heard(recipe):
    """Whatever it is a part of."""
    A = jnp.diag(jnp.full(4, 4.0)) - jnp.eye(4, k=1) - jnp.eye(4, k=-1)
    operator = lo.SparseLinearOperator.from_dense(A, PSD)
    solver = lxs.CG(1e-6, 0.0, preconditioner=recipe).setup(operator)
    _, result, _ = _solved(solver, operator, jnp.ones(4))
    assert result == lxs.RESULTS.preconditioner_failed


def test_failure_of_a_block_is_heard():
    A = lo.MatrixLinearOperator(jnp.eye(2), PSD)
    B = lo.MatrixLinearOperator(jnp.ones((1, 2)))
    saddle = lo.BlockLinearOperator([[A, B.T], [B, None]])
    schur = lxs.SchurComplement(Lost(), form="diagonal")
    assert schur.as_operator(saddle).verdict != 0
    blocks = lxs.BlockTriangular([lxs.LU(), Lost()])
    square = lo.BlockLinearOperator(
        [[A, B.T], [B, lo.MatrixLinearOperator(-B.mv(B.T.mv(jnp.ones(1)))[None])]]
    )
    assert blocks.as_operator(square).verdict != 0


@pytest.mark.parametrize("form", ["diagonal", "lower", "upper", "full"])
def test_schur_complement(rng, form):
    """With exact parts the minimal polynomial of M A is of degree three, two, two and
    one (Murphy, Golub and Wathen 2000, doi:10.1137/S1064827599355153)."""
    D = jnp.asarray(rng.uniform(1, 2, 9))
    A = lo.TaggedLinearOperator(lo.DiagonalLinearOperator(D), PSD)
    B = lo.MatrixLinearOperator(jnp.asarray(rng.standard_normal((4, 9))))
    saddle = lo.BlockLinearOperator([[A, B.T], [B, None]])
    recipe = lxs.SchurComplement(lxs.Jacobi(), form=form)
    b = jnp.asarray(rng.standard_normal(9)), jnp.asarray(rng.standard_normal(4))
    solver = lxs.MINRES if form == "diagonal" else lxs.GMRES
    solver = solver(1e-8, 0.0, preconditioner=recipe)
    state = solver.init(saddle, {})
    x, result, stats = solver.compute(state, b, {})
    assert result == succeeded
    # one more of the diagonal form, by rounding
    most = {"diagonal": 4, "lower": 2, "upper": 2, "full": 1}
    assert stats["num_steps"] <= most[form]
    whole = saddle.as_matrix()
    wanted = np.linalg.solve(whole, np.concatenate(b))
    np.testing.assert_allclose(np.concatenate(x), wanted, rtol=1e-6)


@needs_pyamg
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
    """Of a diagonal matrix nothing is coarsened: solved, unless it would be dense and
    large. Values that are not finite are told by the solver."""
    solver = lxs.CG(1e-8, 0.0, preconditioner=lxs.AMG("ruge_stuben"))
    for n in (1, 300):
        d = jnp.arange(1.0, n + 1)
        index = jnp.arange(n)
        operator = lo.SparseLinearOperator.from_coo(d, index, index, (n, n), PSD)
        x, result, _ = _solved(solver.setup(operator), operator, d)
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


def test_stale_factors(rng):
    A = rng.standard_normal((8, 8))
    A = A @ A.T + 8 * np.eye(8)
    earlier = lo.MatrixLinearOperator(jnp.asarray(A), PSD)
    recipe = lxs.StaleFactors(lxs.Cholesky(), lxs.Cholesky().init(earlier, {}))
    assert steps(earlier, recipe) <= 1
    later = lo.MatrixLinearOperator(jnp.asarray(A + np.eye(8)), PSD)
    np.testing.assert_allclose(matrix_of(recipe, later), np.linalg.inv(A), atol=1e-14)


def test_optimal_circulant():
    operator = lo.ToeplitzLinearOperator(
        1 / (1 + jnp.arange(128, dtype=float)) ** 1.1, tags=PSD
    )
    assert steps(operator, lxs.OptimalCirculant()) < steps(operator, None) / 2
    with pytest.raises(ValueError, match="ToeplitzLinearOperator"):
        lxs.OptimalCirculant().as_operator(lo.MatrixLinearOperator(jnp.eye(3), PSD))


@needs_pyamg
def test_automatic_choice(laplacian):
    auto = lxs.AutoPreconditioner()
    dense = lo.MatrixLinearOperator(jnp.eye(3), PSD)
    hidden = lo.FunctionLinearOperator(lambda x: 2 * x, jnp.zeros(3), PSD)
    B = lo.MatrixLinearOperator(jnp.ones((1, 3)))
    plain = lo.SparseLinearOperator.from_dense(jnp.eye(3))
    large = lo.SparseLinearOperator.from_scipy(poisson(50), PSD)
    for operator, wanted in (
        (dense, "Jacobi"),
        (hidden, "_Identity"),
        (laplacian, "IncompleteCholesky"),
        (large, "AMG"),
        (plain, "IncompleteLU"),
        (lo.ToeplitzLinearOperator(jnp.array([2.0, 1.0])), "OptimalCirculant"),
        (lo.BlockLinearOperator([[dense, B.T], [B, None]]), "SchurComplement"),
        (lo.BlockLinearOperator([[dense, None], [None, dense]]), "BlockJacobi"),
    ):
        assert type(auto.select(operator)).__name__ == wanted
        assert "-> " in auto.explain(operator)
    assert steps(laplacian, "auto") == steps(laplacian, lxs.IncompleteCholesky())
    assert steps(hidden, "auto") <= 2


def test_incomplete_cholesky_beside_jacobi(laplacian):
    jacobi = steps(laplacian, lxs.Jacobi())
    assert steps(laplacian, lxs.IncompleteCholesky()) <= 0.6 * jacobi


def test_compare(laplacian):
    recipes = {"none": None, "IC": lxs.IncompleteCholesky()}
    comparison = lxs.compare(laplacian, jnp.ones(1024), recipes)
    text = str(comparison)
    assert len(text.splitlines()) == 3
    none, cholesky = comparison.trials
    assert cholesky.steps < none.steps
    assert none.residuals[-1] < 1e-7 * none.residuals[0]
    small = lo.MatrixLinearOperator(jnp.eye(3))
    lost = lxs.compare(small, jnp.ones(3), [lxs.SSOR()], lxs.GMRES())
    assert "SparseLinearOperator" in lost.trials[0].status
