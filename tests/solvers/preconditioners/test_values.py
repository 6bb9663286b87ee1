"""M of each preconditioner beside the same in NumPy, and what it is worth."""

import jax.numpy as jnp
import lx_operators as lo
import lx_solvers as lxs
import numpy as np
import pytest
import scipy.sparse

from .problems import PSD, matrix_of, needs_pyamg, poisson, solved, steps, succeeded


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
    _, result, _ = solved(solver, operator, jnp.ones(4))
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
