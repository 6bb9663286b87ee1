"""Derivatives of structured solves: against dense truth, and without a matrix."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import lx_autodiff as lxa
import lx_operators as lxo
import lx_solvers as lxs
import numpy as np
import pytest
from lx_autodiff.testing import LAWS
from lx_operators.internal import ravel, unravel

from tests.autodiff.test_costs import COSTS, primitives

CHECKED = ("value", "jvp", "vjp", "vjp of jvp", "vmap of vjp")


def _stack(matrices):
    return lxo.StackedLinearOperator(
        eqx.filter_vmap(lxo.MatrixLinearOperator)(matrices)
    )


def _side_by_side(p):
    return lxo.BlockDiagonalLinearOperator(
        {"a": lxo.MatrixLinearOperator(p[0]), "b": _stack(p[1])}
    )


def _saddle(A, B):
    return lxo.BlockLinearOperator([[A, B.T], [B, None]])


AUTO = lxs.AutoLinearSolver(well_posed=True)

# name: shapes of the parameters, operator, solver
CASES = {
    "banded": (
        (4, 5),
        lambda a: lxo.BandedLinearOperator(a, lower=2, upper=1),
        lxs.Banded(),
    ),
    "block diagonal": (((2, 2), (2, 2, 2)), _side_by_side, AUTO),
    "block diagonal, any rank": (
        ((3, 2), (2, 2, 3)),
        _side_by_side,
        lxs.AutoLinearSolver(well_posed=False),
    ),
    "block tridiagonal": (
        ((3, 2, 2), (2, 2, 2), (2, 2, 2)),
        lambda p: lxo.BlockTridiagonalLinearOperator(*p),
        lxs.BlockTridiagonal(),
    ),
    "saddle": (
        ((2, 2), (2, 2)),
        lambda p: _saddle(*map(lxo.MatrixLinearOperator, p)),
        lxs.BlockElimination(lxs.LU()),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_derivatives(name):
    """The laws of `lx_autodiff.testing`, for operators between any pytrees; the truth
    is the pseudoinverse of the matrix, formed by products."""
    shapes, build, solver = CASES[name]
    rng = np.random.default_rng(0)

    def draw(*shape):
        return jnp.asarray(rng.standard_normal((2, *shape)).T.dot([1, 1j]).T)

    def like(tree):
        return jtu.tree_map(lambda x: draw(*x.shape), tree)

    is_shape = lambda s: isinstance(s[0], int)  # noqa: E731
    parameters = jtu.tree_map(lambda s: draw(*s), shapes, is_leaf=is_shape)
    operator = build(parameters)

    def solve(p, b):
        op = build(p)
        return ravel(lxa.linear_solve(op, unravel(b, op.out_structure()), solver).value)

    def truth(p, b):
        op = build(p)
        units = jnp.eye(op.in_size(), dtype=b.dtype)
        columns = jax.vmap(lambda e: ravel(op.mv(unravel(e, op.in_structure()))))(units)
        return jnp.linalg.pinv(columns.T) @ b

    x = (parameters, draw(operator.out_size()))
    directions = like(x), draw(operator.in_size())

    def laws(fn):
        return {law: LAWS[law](fn, x, *directions) for law in CHECKED}

    ours, theirs = jax.jit(lambda: laws(solve))(), jax.jit(lambda: laws(truth))()
    for law in CHECKED:
        for got, wanted in zip(*map(jtu.tree_leaves, (ours[law], theirs[law]))):
            scale = abs(wanted).max()
            np.testing.assert_allclose(got, wanted, atol=1e-8 * scale, err_msg=law)


def test_banded_gradient_has_no_matrix():
    """10⁵ unknowns: a matrix would take 80 GB."""
    n = 100_000

    @jax.value_and_grad
    def energy(diagonals):
        operator = lxo.BandedLinearOperator(diagonals, 1, 2)
        return jnp.sum(lxa.linear_solve(operator, jnp.ones(n)).value)

    # A = 8 I, in whatever direction: d(1ᵀA⁻¹1) = -1ᵀA⁻¹ dA A⁻¹1
    value, gradient = jax.jit(energy)(jnp.zeros((4, n)).at[2].set(8.0))
    np.testing.assert_allclose(value, n / 8)
    np.testing.assert_allclose(gradient[:, 2:-2], -1 / 64)


def _lower(p, q):
    return lxo.BlockLinearOperator([[p, None], [q, q]])


def _of_matrices(build):
    return lambda p: build(*map(lxo.MatrixLinearOperator, p))


def _shifted(p):
    """A Kronecker product of Hermitian factors, and a multiple of the identity."""
    factors = (lxo.MatrixLinearOperator(a @ a.T, lxo.symmetric_tag) for a in p[:2])
    kron = lxo.KroneckerLinearOperator(*factors)
    return kron + (1 + p[2] ** 2) * lxo.IdentityLinearOperator(kron.in_structure())


SQUARES = (2, 2), (3, 3)
DETERMINANTS = {
    name: case for name, case in CASES.items() if name != "block diagonal, any rank"
} | {
    "block triangular": (
        ((2, 2), (2, 2)),
        _of_matrices(_lower),
        lxs.BlockElimination(lxs.LU()),
    ),
    "block tridiagonal, parallel": (
        *CASES["block tridiagonal"][:2],
        lxs.BlockTridiagonal(parallel=True),
    ),
    "Kronecker": (
        SQUARES,
        _of_matrices(lxo.KroneckerLinearOperator),
        lxs.Kronecker(lxs.LU()),
    ),
    "Kronecker, shifted": ((*SQUARES, ()), _shifted, lxs.KroneckerEigh()),
    "Kronecker sum": (
        SQUARES,
        _of_matrices(lxo.KroneckerSumLinearOperator),
        lxs.Sylvester(),
    ),
    "circulant": ((5,), lxo.CirculantLinearOperator, lxs.Circulant()),
    "Toeplitz": (
        (4,),
        lambda c: lxo.ToeplitzLinearOperator(c.at[0].add(5)),
        lxs.Toeplitz(),
    ),
    "low-rank update": (
        ((4,), (4, 2)),
        lambda p: lxo.LowRankUpdateLinearOperator(
            lxo.DiagonalLinearOperator(p[0]), p[1]
        ),
        lxs.Woodbury(AUTO),
    ),
    "permutation": (
        (3,),
        lambda _: lxo.PermutationLinearOperator([2, 0, 1]),
        lxs.Permutation(),
    ),
    "block diagonal, by its solver": (
        *CASES["block diagonal"][:2],
        lxs.BlockDiagonal(lxs.LU()),
    ),
    "refined": ((3, 3), lxo.MatrixLinearOperator, lxs.Refined(lxs.LU())),
}


@pytest.mark.parametrize("name", DETERMINANTS)
def test_determinants(name):
    """Gradients of log |det A|, and of a gradient, against those of dense LU."""
    shapes, build, solver = DETERMINANTS[name]
    rng = np.random.default_rng(1)

    def draw(shape):
        return jnp.asarray(rng.standard_normal(shape))

    is_shape = lambda s: s == () or isinstance(s[0], int)  # noqa: E731
    p, dp = (jtu.tree_map(draw, shapes, is_leaf=is_shape) for _ in range(2))

    def ours(p):
        return lxa.slogdet(build(p), solver).logabsdet

    def truth(p):
        return jnp.linalg.slogdet(build(p).as_matrix())[1]

    def second(fn):
        return jax.jvp(jax.value_and_grad(fn), (p,), (dp,))

    got, wanted = jax.jit(lambda: second(ours))(), jax.jit(lambda: second(truth))()
    for a, b in zip(*map(jtu.tree_leaves, (got, wanted))):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", DETERMINANTS)
def test_no_callback(name):
    """Unless a failure is to be raised, the host is not asked anything."""
    shapes, build, solver = DETERMINANTS[name]
    is_shape = lambda s: s == () or isinstance(s[0], int)  # noqa: E731
    p = jtu.tree_map(jnp.ones, shapes, is_leaf=is_shape)

    def callbacks(throw):
        def loss(p):
            operator = build(p)
            size = sum(jnp.sum(x) for x in jtu.tree_leaves(p))
            structure = operator.out_structure()
            b = jtu.tree_map(lambda s: jnp.full(s.shape, size), structure)
            solution = lxa.linear_solve(operator, b, solver, throw=throw)
            return jnp.sum(ravel(solution.value))

        counts = primitives(jax.value_and_grad(loss), p)
        return [name for name in counts if "callback" in name]

    assert not callbacks(throw=False) and callbacks(throw=True)


# Their factors are made and kept on the host.
ON_HOST = {lxs.SparseLU, lxs.SparseCholesky, lxs.SparseLDL, lxs.SparseLeastSquares}


def test_every_solver_is_asked_for_callbacks():
    """Here, or where costs are counted."""
    solvers = [solver for _, _, solver in DETERMINANTS.values()]
    asked = {type(solver) for solver in (*solvers, *(cost.solver for cost in COSTS))}
    public = [getattr(lxs, name) for name in lxs.__all__]
    classes = {x for x in public if isinstance(x, type)}
    solvers = {x for x in classes if issubclass(x, lxs.AbstractLinearSolver)}
    assert asked == solvers - {lxs.AbstractLinearSolver} - ON_HOST


def test_inside_shard_map():
    """Each device solves systems of its own, and differentiates them."""
    mesh = jax.make_mesh((1,), ("devices",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("devices")
    cases = {name: CASES[name] for name in CASES if "any rank" not in name}
    shapes, build, _ = CASES["block tridiagonal"]
    cases["in parallel"] = shapes, build, lxs.BlockTridiagonal(parallel=True)
    rng = np.random.default_rng(2)
    ps = {
        name: jtu.tree_map(
            lambda s: jnp.asarray(rng.standard_normal(s)),
            shapes,
            is_leaf=lambda s: isinstance(s[0], int),
        )
        for name, (shapes, _, _) in cases.items()
    }

    def loss(p, name):
        _, build, solver = cases[name]
        op = build(p)
        b = jtu.tree_map(lambda s: jnp.ones(s.shape), op.out_structure())
        x = lxa.linear_solve(op, b, solver, throw=False).value
        return jnp.sum(ravel(x)) + lxa.slogdet(op, solver).logabsdet

    def losses(ps):
        return {name: jax.value_and_grad(loss)(ps[name], name) for name in ps}

    def on_device(stacked):
        out = losses(jtu.tree_map(lambda x: x[0], stacked))
        return jtu.tree_map(lambda x: x[None], out)

    stacked = jtu.tree_map(lambda x: x[None], ps)
    mapped = jax.shard_map(on_device, mesh=mesh, in_specs=spec, out_specs=spec)
    got, wanted = jax.jit(lambda x: (mapped(x), losses(ps)))(stacked)
    for x, y in zip(*map(jtu.tree_leaves, (got, wanted))):
        np.testing.assert_allclose(x[0], y, rtol=1e-9, atol=1e-9)


def test_block_tridiagonal_determinant_has_no_matrix():
    """2·10⁴ blocks: the gradient of log det is the inverse, on three diagonals."""
    n, b = 20_000, 2

    @jax.jit
    @jax.grad
    def gradient(main):
        off = jnp.zeros((n - 1, b, b))
        operator = lxo.BlockTridiagonalLinearOperator(main, off, off)
        return lxa.slogdet(operator, lxs.BlockTridiagonal()).logabsdet

    block = jnp.array([[2.0, 1.0], [0.0, 4.0]])
    found = gradient(jnp.tile(block, (n, 1, 1)))
    wanted = np.linalg.inv(block).T
    np.testing.assert_allclose(found, np.broadcast_to(wanted, (n, b, b)), atol=1e-14)
