"""Solves saved by `jax.export`: sizes that are not known, other processes, other
platforms."""

import inspect
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import lx_solvers
import numpy as np
import pytest
from jax import export
from lx_solvers import AbstractLinearSolver, export_checks

TOLERANCES = {"rtol": 1e-5, "atol": 1e-5}


def dense(*tags):
    return lambda A: lx.MatrixLinearOperator(A, tags)


def definite(A):
    return dense(lx.positive_semidefinite_tag)(A + A.T)


def tridiagonal(A):
    d = jnp.diagonal(A)
    return lx.TridiagonalLinearOperator(d, d[1:] / 4, d[:-1] / 4)


def lower(A):
    return dense(lx.lower_triangular_tag)(jnp.tril(A))


def blocks(A):
    main, side = jnp.stack([A] * 3), jnp.stack([A / 9] * 2)
    return lx.BlockTridiagonalLinearOperator(main, side, side)


def square_blocks(A):
    A = dense()(A)
    return lx.BlockLinearOperator([[A, A], [A, -A]])


def low_rank(A):
    return lx.LowRankUpdateLinearOperator(dense()(A), A[:, :1])


def kronecker(make):
    return lambda A: lx.KroneckerLinearOperator(make(A), make(A))


def banded(A):
    diagonals = jnp.stack([A[0], jnp.diagonal(A), A[-1]])
    return lx.BandedLinearOperator(diagonals, lower=1, upper=1)


def sparse(make):
    def stored(A):
        A = make(A).as_matrix()
        n = len(A)
        pattern = lx.SparsityPattern.from_dense(np.ones((n, n)))
        tags = (lx.positive_semidefinite_tag,) if make is definite else ()
        return lx.SparseLinearOperator(A.ravel(), pattern, tags)

    return stored


def permutation(A):
    return lx.PermutationLinearOperator(jnp.argsort(A[0]))


# An operator of a matrix A that is strongly diagonally dominant.
GENERAL = {
    "LU": (lx.LU(), dense()),
    "QR": (lx.QR(), dense()),
    "tall QR": (lx.QR(), lambda A: dense()(A[:, :-1])),
    "damped QR": (lx.QR(damp=0.1), dense()),
    "PivotedQR": (lx.PivotedQR(), dense()),
    "Cholesky": (lx.Cholesky(), definite),
    "Eigh": (lx.Eigh(), definite),
    "SVD": (lx.SVD(), dense()),
    "Triangular": (lx.Triangular(), lower),
    "Diagonal": (lx.Diagonal(), lambda A: lx.DiagonalLinearOperator(jnp.diagonal(A))),
    "Tridiagonal": (lx.Tridiagonal(), tridiagonal),
    "AutoLinearSolver": (lx.AutoLinearSolver(well_posed=None), dense()),
    "Banded": (lx.Banded(), banded),
    "BlockTridiagonal": (lx.BlockTridiagonal(), blocks),
    "BlockElimination": (lx.BlockElimination(lx.LU()), square_blocks),
    "Woodbury": (lx.Woodbury(lx.LU()), low_rank),
    "Kronecker": (lx.Kronecker(lx.LU()), kronecker(dense())),
    "KroneckerEigh": (lx.KroneckerEigh(), kronecker(definite)),
    "Refined": (lx.Refined(lx.LU()), dense()),
}
ITERATIVE = {
    "CG": (lx.CG(**TOLERANCES), definite),
    "BiCGStab": (lx.BiCGStab(**TOLERANCES), dense()),
    "GMRES": (lx.GMRES(**TOLERANCES), dense()),
    "FGMRES": (lx.FGMRES(**TOLERANCES), dense()),
    "BlockCG": (lx.BlockCG(**TOLERANCES), definite),
    "COCG": (lx.COCG(**TOLERANCES), definite),
    "IDR": (lx.IDR(**TOLERANCES), dense()),
    "MINRES": (lx.MINRES(**TOLERANCES), definite),
    "MINRESQLP": (lx.MINRESQLP(**TOLERANCES), definite),
    "SYMMLQ": (lx.SYMMLQ(**TOLERANCES), definite),
    "BlockGMRES": (lx.BlockGMRES(**TOLERANCES), dense()),
    "GCRODR": (lx.GCRODR(**TOLERANCES, restart=4, recycle=1), dense()),
    "DeflatedCG": (lx.DeflatedCG(**TOLERANCES, recycle=1, directions=2), definite),
    "LSMR": (lx.LSMR(**TOLERANCES), dense()),
    "LSQR": (lx.LSQR(**TOLERANCES), dense()),
    "Normal": (lx.Normal(lx.CG(**TOLERANCES)), dense()),
}
OTHERS = {
    "Circulant": (lx.Circulant(), lambda A: lx.CirculantLinearOperator(A[0])),
    "Toeplitz": (lx.Toeplitz(), lambda A: lx.ToeplitzLinearOperator(A[0], A[0])),
    "Permutation": (lx.Permutation(), permutation),
    "BlockDiagonal": (
        lx.BlockDiagonal(lx.LU()),
        lambda A: lx.BlockDiagonalLinearOperator([dense()(A), dense()(2 * A)]),
    ),
    "Stacked": (
        lx.BlockDiagonal(lx.LU()),
        lambda A: lx.StackedLinearOperator(eqx.filter_vmap(dense())(jnp.stack([A, A]))),
    ),
    "Sylvester": (
        lx.Sylvester(),
        lambda A: lx.KroneckerSumLinearOperator(dense()(A), dense()(A)),
    ),
}
EVERY = GENERAL | ITERATIVE | OTHERS
# Factors on the host: what calls Python cannot be saved, and JAX says so.
ON_HOST = {
    "SparseLU": (lx.SparseLU(), sparse(dense())),
    "SparseCholesky": (lx.SparseCholesky(), sparse(definite)),
    "SparseLDL": (lx.SparseLDL(), sparse(definite)),
    "SparseLeastSquares": (lx.SparseLeastSquares(), sparse(dense())),
}
CPU_ONLY = {"Sylvester"}  # JAX has the Schur form on CPUs only


def solution(name):
    solver, make = (EVERY | ON_HOST)[name]

    def solve(A):
        operator = make(A)
        b = jax.tree.map(lambda s: jnp.ones(s.shape, s.dtype), operator.out_structure())
        return lx.linear_solve(operator, b, solver, throw=False).value

    return solve


def loss(name):
    def loss(A):
        return sum(jnp.sum(x) for x in jax.tree.leaves(solution(name)(A)))

    return loss


def exported(fn, shape, platform="cpu"):
    checks = export_checks()
    fn = export.export(jax.jit(fn), platforms=[platform], disabled_checks=checks)
    return fn(jax.ShapeDtypeStruct(shape, np.float32))


def matrix(n):
    noise = np.random.default_rng(n).normal(size=(n, n))
    return (noise / n + 4 * np.eye(n)).astype(np.float32)


def test_every_solver_is_here():
    public = {getattr(lx_solvers, name) for name in lx_solvers.__all__}
    solvers = {
        x for x in public if inspect.isclass(x) and issubclass(x, AbstractLinearSolver)
    } - {AbstractLinearSolver}
    assert solvers == {type(solver) for solver, _ in (EVERY | ON_HOST).values()}


def test_host_solvers_are_refused():
    with pytest.raises(NotImplementedError, match="callback"):
        exported(solution("SparseLU"), (4, 4))


@pytest.mark.parametrize("name", GENERAL | ITERATIVE)
def test_symbolic_sizes(name):
    """Value and gradient, for all sizes at once."""
    (n,) = export.symbolic_shape("n", constraints=["n >= 2"])
    both = exported(jax.value_and_grad(loss(name)), (n, n))
    A = jnp.asarray(matrix(4))
    out, gradient = both.call(A)
    expected, operator = np.float64(0), EVERY[name][1](A)
    dense = np.asarray(operator.as_matrix(), np.float64)
    expected = np.sum(np.linalg.lstsq(dense, np.ones(len(dense)))[0])
    if "damped" not in name:
        np.testing.assert_allclose(out, expected, rtol=1e-4)
    assert gradient.shape == A.shape and np.all(np.isfinite(gradient))


def test_symbolic_sizes_small_and_large():
    """LU takes another path for tiny matrices: at no size may it be the wrong one."""
    (n,) = export.symbolic_shape("n")
    solve = exported(solution("LU"), (n, n))
    for size in (1, 3, 30):
        A = matrix(size)
        np.testing.assert_allclose(
            solve.call(A), np.linalg.solve(A, np.ones(size)), rtol=1e-5
        )


def test_symbolic_batch():
    """The number of systems is not known either."""
    k, n = export.symbolic_shape("k, n", constraints=["n >= 2"])
    solve = jax.vmap(solution("LU"))
    solve = exported(solve, (k, n, n))
    A = np.stack([matrix(4), 2 * matrix(4)])
    wanted = [np.linalg.solve(a, np.ones(4)) for a in A]
    np.testing.assert_allclose(solve.call(A), wanted, rtol=1e-5)


SERVED = """
import sys
import jax
import numpy as np

jax.config.update("jax_enable_x64", True)
solve = jax.export.deserialize(bytearray(open(sys.argv[1], "rb").read()))
A = np.load(sys.argv[2])
np.save(sys.argv[3], solve.call(A))
assert not any(name.startswith(("lineax", "lx_")) for name in sys.modules)
"""


@pytest.mark.skipif(
    jax.__version_info__ <= (0, 7, 2),
    reason="a fresh process crashes in JAX 0.7.2, which serves no `jnp.linalg.solve`",
)
@pytest.mark.parametrize("name", ["LU", "QR"])
def test_saved_and_served(name, tmp_path):
    """What was saved runs where none of our packages is imported."""
    pytest.importorskip("flatbuffers")  # which JAX writes with
    A = matrix(5)
    paths = [tmp_path / file for file in ("saved", "A.npy", "x.npy")]
    paths[0].write_bytes(exported(solution(name), A.shape).serialize())
    np.save(paths[1], A)
    command = [sys.executable, "-c", "import jax.export" + SERVED, *map(str, paths)]
    subprocess.run(command, check=True)
    np.testing.assert_allclose(
        np.load(paths[2]), np.linalg.solve(A, np.ones(5)), rtol=1e-5
    )


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_other_platforms(platform):
    """Values, gradients and batches of every solver lower for a machine that is not
    there."""
    for name in EVERY.keys() - CPU_ONLY:
        fn = solution(name) if name == "Permutation" else jax.value_and_grad(loss(name))
        out = exported(jax.vmap(fn), (3, 4, 4), platform)
        assert out.platforms == (platform,), name


def test_unguaranteed_calls_are_named():
    """Without `export_checks`, JAX refuses QR, and says so."""
    with pytest.raises(ValueError, match="no compatibility guarantees"):
        shape = jax.ShapeDtypeStruct((4, 4), np.float32)
        export.export(jax.jit(solution("PivotedQR")), platforms=["cpu"])(shape)


def test_no_transform_of_a_symbolic_length():
    """Why `Circulant` and `Toeplitz` have no symbolic sizes; the guide says so. When
    this fails, they can have them."""
    (n,) = export.symbolic_shape("n")
    with pytest.raises(NotImplementedError, match="FFT"):
        exported(jnp.fft.fft, (n,))
