"""Vectors of any structure, size and dtype, for all iterative solvers."""

import jax
import jax.numpy as jnp
import lx_operators as lo
import numpy as np
from lx_operators.internal import max_norm
from lx_solvers.krylov._spaces import spaces
from lx_solvers.krylov._tolerances import Tolerances

from .conftest import N, each_loop
from .counting import traced_solve


@each_loop
def test_elements_are_tested_near_the_end(name, method, suited, draw, run, monkeypatch):
    """A pass of the loop over all elements, which not every step makes."""
    tests = []

    def counted(goal, relative):
        jax.debug.callback(tests.append, goal.rtol)
        return norm(goal, relative)

    norm = Tolerances._norm
    monkeypatch.setattr(Tolerances, "_norm", counted)
    dtype = np.dtype(np.float64)
    a, b = suited(name, dtype, 23), draw(dtype, 23)  # which is compiled nowhere else
    _, result, steps, _ = run(method.make(1e-9, 0.0), a, b, method.tags)
    jax.effects_barrier()
    assert result == "successful"
    assert 1 <= len(tests) <= 3 + steps / 2, (len(tests), steps)


@each_loop
def test_norm_of_another_dtype(name, method, suited, draw, run, residual):
    def norm(tree):
        leaves = [jnp.sum(x.astype(np.float64) ** 2) for x in jax.tree.leaves(tree)]
        return jnp.sqrt(sum(leaves))

    dtype = np.dtype(np.float32)
    a, b = suited(name, dtype), draw(dtype, N)
    x, result, _, _ = run(method.make(1e-4, 0.0, norm=norm), a, b, method.tags)
    assert result == "successful"
    assert x.dtype == dtype
    assert residual(a, x, b) <= 1e-4


@each_loop
def test_squares_that_overflow(name, method, suited, draw, run):
    """A residual far above b that passes by `atol` alone is seen to do so, and one that
    does not is no success."""
    dtype = np.dtype(np.float32)
    a, b = suited(name, dtype), 1e-25 * draw(dtype, N)
    for size in (1.0, 1e3):
        y0 = jnp.asarray(size * draw(dtype, N))
        solver = method.make(1e-5, 1e-3)
        x, result, _, _ = run(solver, a, b, method.tags, y0=y0)
        if result == "successful":
            assert np.abs(a @ x - b).max() <= 2e-3
        else:
            assert name not in ("MINRES", "LSMR"), result


@each_loop
def test_one_unknown(name, method, run):
    a, b = np.array([[2.0]]), np.array([3.0])
    x, result, steps, _ = run(method.make(1e-9, 0.0), a, b, method.tags)
    assert result == "successful"
    assert steps <= 2
    np.testing.assert_allclose(x, b / 2)


@each_loop
def test_empty(name, method, run):
    a, b = np.zeros((0, 0)), np.zeros(0)
    x, *end, _ = run(method.make(1e-6, 1e-6), a, b, method.tags)
    assert end == ["successful", 0]
    assert x.shape == (0,)


@each_loop
def test_pytrees(name, method, suited, draw, run):
    """Leaves of two shapes and of two precisions."""
    a, b = suited(name, np.float64), draw(np.float64, N)
    sizes, dtypes = {"a": (2, 2), "b": (N - 4,)}, {"a": np.float32, "b": np.float64}
    part = {"a": slice(0, 4), "b": slice(4, None)}
    blocks = {
        i: {
            j: jnp.asarray(a[part[i], part[j]].reshape(sizes[i] + sizes[j]), dtypes[j])
            for j in "ab"
        }
        for i in "ab"
    }
    structure = {k: jax.ShapeDtypeStruct(sizes[k], dtypes[k]) for k in "ab"}
    operator = lo.PyTreeLinearOperator(blocks, structure, method.tags)
    vector = {k: b[part[k]].reshape(sizes[k]).astype(dtypes[k]) for k in "ab"}
    x, result, _, _ = run(method.make(1e-5, 0.0), operator, vector)
    assert result == "successful"
    exact = np.linalg.solve(a, b)
    for k in "ab":
        assert x[k].dtype == dtypes[k]
        wanted = exact[part[k]].reshape(sizes[k])
        np.testing.assert_allclose(x[k], wanted, atol=1e-4)


@each_loop
def test_mixed_dtypes(name, method, suited, draw, run):
    """A real leaf beside a complex and an empty one."""
    dtypes = {"a": np.dtype("float64"), "b": np.dtype("complex64")}
    a = {k: suited(name, dtypes[k], 5) for k in "ab"}
    b = {k: draw(dtypes[k], 5) for k in "ab"} | {"c": np.zeros((0, 3))}

    def fn(v):
        return {k: jnp.asarray(a[k]) @ v[k] for k in "ab"} | {"c": v["c"]}

    operator = lo.FunctionLinearOperator(fn, jax.tree.map(jnp.asarray, b), method.tags)
    x, result, _, _ = run(method.make(1e-4, 0.0), operator, b)
    assert result == "successful"
    assert x["c"].shape == (0, 3)
    for k in "ab":
        assert x[k].dtype == dtypes[k]
        np.testing.assert_allclose(x[k], np.linalg.solve(a[k], b[k]), atol=5e-3)


@each_loop
def test_half_precision(name, method, suited, draw, run):
    """Computed in float32; of two axes, which are kept."""
    half = jnp.bfloat16 if method.adjoint else jnp.float16
    a, b = (jnp.asarray(z, half) for z in (suited(name, float), draw(float, N)))
    structure = jax.ShapeDtypeStruct((4, 4), half)
    a = a.reshape(4, 4, 4, 4)
    operator = lo.PyTreeLinearOperator(a, structure, method.tags)
    with jax.numpy_dtype_promotion("standard"):  # else products are in half precision
        x, result, _, _ = run(method.make(1e-3, 1e-3), operator, b.reshape(4, 4))
    assert result == "successful"
    assert x.dtype == half
    assert x.shape == (4, 4)
    a, b, x = (np.asarray(z, np.float64) for z in (a, b, x))
    exact = np.linalg.solve(a.reshape(N, N), b.reshape(N))
    np.testing.assert_allclose(x.reshape(N), exact, atol=0.05)


def test_arrays_of_several_axes(name, method):
    """They are not reshaped: that would move a sharded one."""
    structure = jax.ShapeDtypeStruct((4, 5), jnp.float64)
    operator = lo.FunctionLinearOperator(lambda x: 2 * x, structure, method.tags)
    assert spaces(operator)[0].shape == (4, 5)
    solver = method.make(1e-9, 0.0, norm=max_norm)
    assert "reshape" not in str(traced_solve(solver, operator))
