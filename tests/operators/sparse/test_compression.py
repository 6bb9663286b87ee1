"""Sparse Jacobians from few products."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lx_operators as lx
import numpy as np
import pytest
import scipy.sparse as sp
from lx_operators.testing import OperatorLaws

X = jnp.linspace(0.5, 2.0, 6)


def _fn(x, scale):
    """Tridiagonal."""
    left, right = jnp.pad(x, (1, 0))[:-1], jnp.pad(x, (0, 1))[1:]
    return scale * x**2 + left * right + jnp.sin(left)


def _dense(x, scale=2.0):
    """By hand."""
    x = np.asarray(x)
    left, right = np.pad(x, (1, 0))[:-1], np.pad(x, (0, 1))[1:]
    below = (right + np.cos(left))[1:]
    return np.diag(2 * scale * x) + np.diag(below, -1) + np.diag(left[:-1], 1)


class TestLaws(OperatorLaws):
    dtypes = ("float32", "complex128")

    def make(self, dtype, key):
        x = jax.random.normal(key, (5,), dtype)
        scale = jnp.asarray(2.0, dtype)
        return lx.JacobianLinearOperator(_fn, x, scale, sparsity="detect")

    def matrix(self, operator):
        return _dense(operator.x)


@pytest.mark.parametrize("jac", [None, "fwd", "bwd"])
def test_materialise(jac):
    operator = lx.JacobianLinearOperator(_fn, X, 2.0, jac=jac, sparsity="detect")
    assert operator.sparsity.kind == ("rows" if jac == "bwd" else "columns")
    assert operator.sparsity.count == 3
    stored = lx.materialise(operator)
    assert isinstance(stored, lx.SparseLinearOperator) and stored.pattern.size == 16
    np.testing.assert_allclose(stored.as_matrix(), _dense(X), rtol=1e-14)
    np.testing.assert_allclose(operator.as_matrix(), _dense(X), rtol=1e-14)
    np.testing.assert_allclose(lx.diagonal(operator), 4 * X, rtol=1e-14)
    assert lx.is_tridiagonal(stored)


def test_products_are_few(monkeypatch):
    """As many tangents as colours, in one run of the function."""
    shapes = []

    @jax.custom_jvp
    def seen(x):
        return x

    @seen.defjvp
    def _(primals, tangents):
        jax.debug.callback(lambda t: shapes.append(t.shape), tangents[0])
        return primals[0], tangents[0]

    fn = lambda x, _: _fn(seen(x), 2.0)  # noqa: E731
    pattern = lx.jacobian_sparsity(_fn, X, 2.0)
    operator = lx.JacobianLinearOperator(fn, X, sparsity=pattern)
    jax.block_until_ready(lx.materialise(operator))
    jax.effects_barrier()
    assert len(shapes) == 3


def test_other_patterns():
    """SciPy's, with colours, one of asdex's form; and larger than need be."""
    pattern = lx.jacobian_sparsity(_fn, X, 2.0)
    matrix = sp.coo_array((np.ones(16), (pattern.rows, pattern.columns)), (6, 6))

    class Other:
        rows, cols, shape = (
            np.asarray(pattern.rows),
            np.asarray(pattern.columns),
            (6, 6),
        )

    class WithColours:
        sparsity = Other()

    full = lx.SparsityPattern.from_dense(np.ones((6, 6)))
    for sparsity in (matrix, matrix.tocsc(), Other(), WithColours(), full):
        operator = lx.JacobianLinearOperator(_fn, X, 2.0, sparsity=sparsity)
        stored = lx.materialise(operator)
        np.testing.assert_allclose(stored.as_matrix(), _dense(X), rtol=1e-14)


def test_pytrees():
    def fn(x, _):
        return {"a": x["u"][::-1] * x["v"], "b": jnp.sum(x["u"]) * jnp.ones((2, 1))}

    x = {"u": jnp.arange(1.0, 4), "v": jnp.array(2.0)}
    operator = lx.JacobianLinearOperator(fn, x, sparsity="detect")
    stored = lx.materialise(operator)
    expected = [[0, 0, 2, 3], [0, 2, 0, 2], [2, 0, 0, 1], [1, 1, 1, 0], [1, 1, 1, 0]]
    np.testing.assert_allclose(stored.as_matrix(), expected)
    assert stored.in_structure() == operator.in_structure()
    assert stored.out_structure() == operator.out_structure()
    assert stored.pattern.size == 12


def test_mixed_dtypes():
    def fn(x, _):
        return x[0].astype(jnp.float64) * x[1], x[0] ** 2

    x = jnp.arange(1.0, 4, dtype=jnp.float32), jnp.arange(2.0, 5)
    operator = lx.JacobianLinearOperator(fn, x, sparsity="detect")
    zero = np.zeros((3, 3))
    expected = np.block(
        [[np.diag([2.0, 3, 4]), np.diag([1.0, 2, 3])], [np.diag([2.0, 4, 6]), zero]]
    )
    np.testing.assert_allclose(lx.compress(operator).as_matrix(), expected)


def _energy(x):
    """An arrow of a Hessian: all are coupled with the first."""
    return jnp.sum(x[0] * x[1:] ** 2) + jnp.sum(x**4)


def test_hessian_by_stars():
    gradient = lambda x, _: jax.grad(_energy)(x)  # noqa: E731
    operator = lx.JacobianLinearOperator(
        gradient, X, tags=lx.symmetric_tag, sparsity="detect"
    )
    assert (operator.sparsity.kind, operator.sparsity.count) == ("symmetric", 2)
    stored = lx.materialise(operator)
    assert lx.is_symmetric(stored)
    np.testing.assert_allclose(
        stored.as_matrix(), jax.hessian(_energy)(X), rtol=1e-13, atol=1e-13
    )


def test_hermitian_mirror_is_conjugated():
    matrix = jnp.diag(jnp.arange(1.0, 5)).astype(complex)
    matrix = matrix.at[0, 1:].set(1j).at[1:, 0].set(-1j)
    structure = jax.ShapeDtypeStruct((4,), jnp.complex128)
    pattern = lx.SparsityPattern.from_dense(matrix)
    for tag in (lx.hermitian_tag, lx.symmetric_tag):
        a = matrix if tag is lx.hermitian_tag else jnp.abs(matrix).astype(complex)
        operator = lx.FunctionLinearOperator(lambda x, a=a: a @ x, structure, tag)
        stored = lx.compress(operator, pattern)
        assert lx.ColouredPattern(pattern, ("symmetric",)).count == 2
        np.testing.assert_allclose(stored.as_matrix(), a)


def test_only_backward():
    @jax.custom_vjp
    def fn(x):
        return x[1:] * x[:-1]

    fn.defvjp(
        lambda x: (fn(x), x),
        lambda x, g: (jnp.pad(g * x[:-1], (1, 0)) + jnp.pad(g * x[1:], (0, 1)),),
    )
    operator = lx.JacobianLinearOperator(
        lambda x, _: jnp.sin(fn(x)), X, jac="bwd", sparsity="detect"
    )
    assert operator.sparsity.pattern.size == 10
    expected = jax.jacrev(lambda x: jnp.sin(fn(x)))(X)
    np.testing.assert_allclose(lx.materialise(operator).as_matrix(), expected)


def test_function_operator():
    operator = lx.FunctionLinearOperator(lambda x: jnp.cumsum(x)[::2], X)
    pattern = lx.jacobian_sparsity(lambda x, _: operator.mv(x), X)
    np.testing.assert_allclose(
        lx.compress(operator, pattern).as_matrix(), operator.as_matrix()
    )
    assert lx.ColouredPattern(pattern).count == 3  # rows


def test_jit_vmap_grad():
    pattern = lx.jacobian_sparsity(_fn, X, 2.0)

    def value(x, scale, sparsity):
        operator = lx.JacobianLinearOperator(_fn, x, scale, sparsity=sparsity)
        return jnp.sum(lx.materialise(operator).values ** 2)

    def by_dense(x, scale):
        return jnp.sum(jax.jacfwd(lambda x: _fn(x, scale))(x) ** 2)

    scale = jnp.array(2.0)
    for sparsity in (pattern, lx.ColouredPattern(pattern)):
        given = isinstance(sparsity, lx.ColouredPattern)
        run = eqx.filter_jit(value) if given else value
        np.testing.assert_allclose(run(X, scale, sparsity), by_dense(X, scale))
    xs = jnp.stack([X, X[::-1]])
    compiled = jax.jit(jax.vmap(lambda x: value(x, scale, pattern)))
    np.testing.assert_allclose(
        compiled(xs), [by_dense(x, scale) for x in xs], rtol=1e-12
    )
    for number in (0, 1):
        gradient = jax.grad(lambda *a: value(*a, pattern), number)(X, scale)
        expected = jax.grad(by_dense, number)(X, scale)
        np.testing.assert_allclose(gradient, expected, rtol=1e-12)
    # detected under jit, where x is traced
    found = jax.jit(lambda x: value(x, 2.0, "detect"))(X)
    np.testing.assert_allclose(found, by_dense(X, 2.0))


def test_operator_crosses_jit_and_vmap():
    operator = lx.JacobianLinearOperator(_fn, X, 2.0, sparsity="detect")
    stored = eqx.filter_jit(lx.materialise)(operator)
    np.testing.assert_allclose(stored.as_matrix(), _dense(X), rtol=1e-14)
    many = eqx.filter_vmap(
        lambda x: lx.JacobianLinearOperator(_fn, x, 2.0, sparsity="detect")
    )(jnp.stack([X, X[::-1]]))
    matrices = eqx.filter_vmap(lambda op: lx.materialise(op).as_matrix())(many)
    np.testing.assert_allclose(matrices, [_dense(X), _dense(X[::-1])], rtol=1e-14)


def test_parameters_may_be_zero():
    """A zero among the parameters is an entry all the same: it has a derivative."""

    def loss(scales):
        operator = lx.JacobianLinearOperator(
            lambda x, _: scales * x**2, X, sparsity="detect"
        )
        return jnp.sum(lx.materialise(operator).values)

    scales = jnp.zeros(6)
    np.testing.assert_allclose(jax.grad(loss)(scales), 2 * X)
    pattern = lx.jacobian_sparsity(lambda x, _: scales * x, X)
    assert pattern.size == 6
    assert lx.jacobian_sparsity(lambda x, a: a * x, X, scales).size == 6
    # what is no parameter may be relied on
    assert lx.jacobian_sparsity(lambda x, _: np.zeros(6) * x, X).size == 0


def test_a_pattern_that_lacks_entries():
    """Found by `verify`, and at run time where that is asked for."""
    lacking = np.asarray(_dense(X) != 0)
    lacking[3, 2] = False
    pattern = lx.SparsityPattern.from_dense(lacking)
    key = jax.random.key(0)
    for size in (256, 2):  # by elements, by products
        operator = lx.JacobianLinearOperator(_fn, X, 2.0, sparsity=pattern)
        report = lx.verify(operator, key, dense_up_to=size)
        assert "sparsity" in report.broken
        good = lx.JacobianLinearOperator(_fn, X, 2.0, sparsity="detect")
        report = lx.verify(good, key, dense_up_to=size)
        assert report.ok and "sparsity" in [check.promise for check in report.checks]
    operator = lx.JacobianLinearOperator(
        _fn, X, 2.0, sparsity=pattern, check_sparsity=True
    )
    with pytest.raises(Exception, match="lacks entries"):
        jax.block_until_ready(lx.materialise(operator).values)
    with pytest.raises(Exception, match="lacks entries"):
        out = eqx.filter_jit(lx.compress)(operator)
        jax.block_until_ready(out.values)
    good = lx.JacobianLinearOperator(
        _fn, X, 2.0, sparsity="detect", check_sparsity=True
    )
    np.testing.assert_allclose(lx.materialise(good).as_matrix(), _dense(X), rtol=1e-14)


def test_errors():
    pattern = lx.jacobian_sparsity(_fn, X, 2.0)
    make = lambda sparsity: lx.JacobianLinearOperator(_fn, X, 2.0, sparsity=sparsity)  # noqa: E731
    with pytest.raises(ValueError, match="'detect'"):
        make("guess")
    with pytest.raises(ValueError, match=r"shape \(4, 4\).*\(6, 6\)"):
        make(sp.eye_array(4))
    with pytest.raises(ValueError, match="from_dense"):
        make(np.eye(6))
    with pytest.raises(ValueError, match="outside of `jit`"):
        eqx.filter_jit(make)(pattern)
    with pytest.raises(ValueError, match="is not symmetric"):
        lx.ColouredPattern(lx.SparsityPattern([0], [1], (2, 2)), ("symmetric",))
    with pytest.raises(ValueError, match="`kinds`"):
        lx.ColouredPattern(pattern, ("diagonals",))
    with pytest.raises(ValueError, match="jacobian_sparsity"):
        lx.compress(lx.FunctionLinearOperator(lambda x: x, X))
    with pytest.raises(ValueError, match="floating or complex"):
        lx.jacobian_sparsity(lambda x, _: 1, X)


def test_nothing_there():
    for fn, shape in ((lambda x, _: jnp.ones(3), (3, 6)), (lambda x, _: x[:0], (0, 6))):
        operator = lx.JacobianLinearOperator(fn, X, sparsity="detect")
        stored = lx.materialise(operator)
        assert stored.pattern.size == 0 and stored.as_matrix().shape == shape


def test_coloured_once():
    """A pattern is coloured once as long as it lives, and then forgotten."""
    from lx_operators.sparse import compression

    pattern = lx.jacobian_sparsity(_fn, X, 2.0)
    kinds = ("columns", "rows")
    first = compression._coloured(pattern, kinds)
    before = len(compression._found)
    assert compression._coloured(pattern, kinds) is first
    del pattern
    assert len(compression._found) < before


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.complex128])
def test_pattern_stays(dtype):
    """What a Jacobian with a pattern becomes keeps it, transposed with it; so does its
    matrix."""

    def fn(x, args):
        return x[1:] * x[:-1] ** 2 + x[0]

    x = jnp.linspace(1, 2, 9, dtype=dtype) * (
        1 + 0.5j if dtype == jnp.complex128 else 1
    )
    operator = lx.JacobianLinearOperator(fn, x, sparsity="detect")
    matrix = np.asarray(jax.jacfwd(fn, holomorphic=x.dtype.kind == "c")(x, None))
    assert operator.sparsity is not None
    for made, true in (
        (operator, matrix),
        (operator.T, matrix.T),
        (operator.T.T, matrix),
        (operator.H, matrix.conj().T),
        (lx.conj(operator), matrix.conj()),
        (lx.linearise(operator), matrix),
        (lx.linearise(operator).T, matrix.T),
        (lx.materialise(operator).T, matrix.T),
    ):
        sparse = lx.materialise(made)
        assert isinstance(sparse, lx.SparseLinearOperator)
        assert sparse.pattern.size == operator.sparsity.pattern.size
        np.testing.assert_allclose(sparse.as_matrix(), true, rtol=1e-5)
        np.testing.assert_allclose(made.as_matrix(), true, rtol=1e-5)
        y = jnp.ones(true.shape[1], x.dtype)
        np.testing.assert_allclose(made.mv(y), true.sum(1), rtol=1e-5)
