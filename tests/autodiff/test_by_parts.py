"""Derivatives of solves with structured operators: against dense truth, and without a
dense matrix."""

import runpy
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import lx_autodiff as lxa
import lx_operators as lxo
import lx_solvers as lxs
import numpy as np
import pytest
from lx_autodiff.testing import ProblemClass, check_derivatives

AUTO = lxs.AutoLinearSolver(well_posed=True)


def _draw(rng, dtype, *shape):
    x = rng.standard_normal(shape)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        x = x + 1j * rng.standard_normal(shape)
    return jnp.asarray(x, dtype)


def _dominant(rng, dtype, n, shift=4.0):
    return _draw(rng, dtype, n, n) + shift * jnp.eye(n, dtype=dtype)


def _hermitian(a):
    matrix = a + a.conj().T
    return lxo.MatrixLinearOperator(matrix, lxo.hermitian_tag)


class Raveled(lxo.AbstractLinearOperator):
    """An operator between arrays, as one between vectors."""

    inner: lxo.AbstractLinearOperator

    def mv(self, vector):
        x = vector.reshape(self.inner.in_structure().shape)
        return self.inner.mv(x).ravel()

    def as_matrix(self):
        return self.inner.as_matrix()

    def transpose(self):
        return Raveled(self.inner.T)

    def in_structure(self):
        structure = self.inner.in_structure()
        return jax.ShapeDtypeStruct((structure.size,), structure.dtype)

    def out_structure(self):
        return self.in_structure()


@lxo.conj.register
def _(operator: Raveled):
    return Raveled(lxo.conj(operator.inner))


class ForRaveled(lxs.AbstractLinearSolver):
    """A solver, for raveled operators."""

    inner: lxs.AbstractLinearSolver
    shape: tuple[int, ...] = eqx.field(static=True)

    def init(self, operator, options):
        return self.inner.init(operator.inner, options)

    def compute(self, state, vector, options):
        x = vector.reshape(self.shape)
        x, result, stats = self.inner.compute(state, x, options)
        return x.ravel(), result, stats

    def transpose(self, state, options):
        return self.inner.transpose(state, options)

    def conj(self, state, options):
        return self.inner.conj(state, options)

    def assume_full_rank(self):
        return self.inner.assume_full_rank()


def _kronecker(p):
    return lxo.KroneckerLinearOperator(*map(lxo.MatrixLinearOperator, p))


def _sum(p):
    return lxo.KroneckerSumLinearOperator(*map(lxo.MatrixLinearOperator, p))


def _shifted(p):
    a, b, s = p
    kron = lxo.KroneckerLinearOperator(_hermitian(a), _hermitian(b))
    return kron + s * lxo.IdentityLinearOperator(kron.in_structure())


def _update(p):
    A = lxo.DiagonalLinearOperator(p["d"])
    return lxo.LowRankUpdateLinearOperator(A, p["U"], p["C"], p["V"])


def _update_parameters(rng, dtype):
    return {
        "d": 4 + 0.3 * _draw(rng, dtype, 4),
        "U": _draw(rng, dtype, 4, 2),
        "C": _draw(rng, dtype, 2, 2),
        "V": 0.3 * _draw(rng, dtype, 4, 2),
    }


def _pair(rng, dtype):
    return _dominant(rng, dtype, 2), _dominant(rng, dtype, 2)


def _toeplitz_parameters(rng, dtype):
    column, row = (0.5 * _draw(rng, dtype, 4) for _ in range(2))
    return column.at[0].set(3), row


PROBLEMS = {
    "kronecker": (lxs.Kronecker(AUTO), _pair, _kronecker),
    "sylvester": (lxs.Sylvester(), _pair, _sum),
    "eigh": (
        lxs.KroneckerEigh(well_posed=True),
        lambda rng, dtype: (*_pair(rng, dtype), jnp.asarray(0.5, dtype)),
        _shifted,
    ),
    "circulant": (
        lxs.Circulant(well_posed=True),
        lambda rng, dtype: _draw(rng, dtype, 4).at[0].add(4),
        lxo.CirculantLinearOperator,
    ),
    "toeplitz": (
        lxs.Toeplitz(),
        _toeplitz_parameters,
        lambda p: lxo.ToeplitzLinearOperator(*p),
    ),
    "woodbury": (
        lxs.Woodbury(lxs.Diagonal(well_posed=True)),
        _update_parameters,
        _update,
    ),
}
each = pytest.mark.parametrize("name", PROBLEMS)


@each
def test_solve(name):
    """The laws of the conformance suite: derivatives in both modes, second ones, and
    batches."""
    dtype = "complex128"
    solver, parameters, operator = PROBLEMS[name]

    def matrix(p):
        return operator(p).as_matrix()

    def inverse(p):
        return jnp.linalg.solve(matrix(p), jnp.eye(4, dtype=dtype))

    shape = operator(parameters(np.random.default_rng(0), dtype)).in_structure().shape
    problem = ProblemClass(
        name, parameters, lambda p: Raveled(operator(p)), matrix, inverse
    )
    laws = ("value", "jvp", "vjp", "vjp of jvp", "vmap of vjp")
    check_derivatives(ForRaveled(solver, shape), problem, dtype, laws=laws)


@each
def test_logdet(name):
    """First and second derivatives of log|det A|."""
    solver, parameters, operator = PROBLEMS[name]
    rng = np.random.default_rng(2)
    p = parameters(rng, "complex128")
    q = parameters(rng, "complex128")

    def ours(t):
        at = jax.tree.map(lambda x, y: x + t * y, p, q)
        return lxa.slogdet(operator(at), solver).logabsdet

    def truth(t):
        at = jax.tree.map(lambda x, y: x + t * y, p, q)
        return jnp.linalg.slogdet(operator(at).as_matrix())[1]

    def both(fn):
        first = jax.grad(fn)
        forward = jax.jvp(fn, (0.1,), (1.0,))[1]
        second = jax.grad(jax.jit(first))(0.1), jax.jvp(first, (0.1,), (1.0,))[1]
        return fn(0.1), first(0.1), forward, *second

    got, wanted = jax.jit(lambda: (both(ours), both(truth)))()
    np.testing.assert_allclose(got, wanted, rtol=1e-9)


def _largest(fn, *args):
    """The size of the largest array that a computation makes."""
    sizes = [0]

    def visit(jaxpr):
        for equation in jaxpr.eqns:
            sizes.extend(np.prod(v.aval.shape, dtype=int) for v in equation.outvars)
            for value in jax.tree.leaves(equation.params, is_leaf=_is_jaxpr):
                if _is_jaxpr(value):
                    visit(getattr(value, "jaxpr", value))

    visit(jax.make_jaxpr(fn)(*args).jaxpr)
    return max(sizes)


def _is_jaxpr(value):
    return hasattr(value, "eqns") or hasattr(value, "jaxpr")


@each
def test_gradients_never_densify(name):
    """Gradients of the solution and log-determinant together make no array of n²
    elements (nor of n √n, except for n log n work)."""
    solver, _, operator = PROBLEMS[name]
    k, n = 16, 256
    rng, dtype = np.random.default_rng(0), "float64"
    p = {
        "kronecker": lambda: (
            _dominant(rng, dtype, k, 40),
            _dominant(rng, dtype, k, 40),
        ),
        "circulant": lambda: _draw(rng, dtype, n),
        "toeplitz": lambda: (_draw(rng, dtype, n), _draw(rng, dtype, n)),
        "woodbury": lambda: {
            "d": _draw(rng, dtype, n),
            "U": _draw(rng, dtype, n, 2),
            "C": _draw(rng, dtype, 2, 2),
            "V": _draw(rng, dtype, n, 2),
        },
    }
    p["sylvester"] = p["kronecker"]
    p["eigh"] = lambda: (*p["kronecker"](), jnp.asarray(0.5))
    p = p[name]()

    def loss(p):
        a = operator(p)
        b = jnp.ones(a.in_structure().shape)
        solution = lxa.linear_solve(a, b, solver, throw=False)
        return solution.value.sum() + lxa.slogdet(a, solver).logabsdet

    limit = k * n if name in ("kronecker", "eigh", "sylvester") else 8 * n
    assert _largest(jax.grad(loss), p) <= limit < n * n


def test_inside_shard_map():
    """Each device solves a system of its own, and differentiates it."""
    mesh = jax.make_mesh((1,), ("devices",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("devices")
    rng = np.random.default_rng(3)
    ps = {
        name: parameters(rng, "float64")
        for name, (_, parameters, _) in PROBLEMS.items()
    }

    def losses(ps):
        def loss(name, p):
            solver, _, operator = PROBLEMS[name]
            a = operator(p)
            b = jnp.ones(a.in_structure().shape)
            return lxa.linear_solve(a, b, solver, throw=False).value.sum()

        return {name: jax.value_and_grad(lambda p, n=name: loss(n, p))(p)
                for name, p in ps.items()}  # fmt: skip

    def on_device(stacked):
        out = losses(jax.tree.map(lambda x: x[0], stacked))
        return jax.tree.map(lambda x: x[None], out)

    stacked = jax.tree.map(lambda x: x[None], ps)
    mapped = jax.shard_map(on_device, mesh=mesh, in_specs=spec, out_specs=spec)
    got, wanted = jax.jit(lambda x: (mapped(x), losses(ps)))(stacked)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x[0], y, rtol=1e-9), got, wanted
    )


@pytest.mark.standard_promotion
def test_gaussian_process():
    """The example's log-likelihood and its gradient are those of the dense density."""
    example = Path(__file__).parents[2] / "examples" / "gaussian_process.py"
    space = runpy.run_path(str(example))
    x, t = jnp.linspace(0, 1, 4), jnp.linspace(0, 2, 3)
    y = jnp.asarray(np.random.default_rng(4).standard_normal((4, 3)))
    theta = {"x": 0.3, "t": 0.5, "scale": 1.3, "noise": 0.4}
    theta = jax.tree.map(jnp.asarray, theta)

    def dense(theta):
        def kernel(p, length):
            return jnp.exp(-(((p[:, None] - p) / length) ** 2) / 2)

        K = jnp.kron(kernel(x, theta["x"]), kernel(t, theta["t"]))
        K = theta["scale"] ** 2 * K + theta["noise"] ** 2 * jnp.eye(12)
        zero = jnp.zeros(12)
        return jax.scipy.stats.multivariate_normal.logpdf(y.ravel(), zero, K)

    def ours(theta):
        return space["log_likelihood"](theta, x, t, y)

    got, wanted = jax.jit(lambda p: [jax.value_and_grad(f)(p) for f in (ours, dense)])(
        theta
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), got, wanted)
