"""A solve inside every transformation of JAX, and any nesting of them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lx_autodiff as lxa
import lx_operators as lxo
import lx_solvers as lxs
import numpy as np
import pytest

RNG = np.random.default_rng(2)
A = jnp.asarray(RNG.standard_normal((3, 3)) @ np.diag([3.0, 2.0, 1.0]) + 3 * np.eye(3))
PSD = A @ A.T
B = jnp.asarray(RNG.standard_normal(3))

SOLVERS = {"LU": lxs.LU(), "CG": lxs.CG(1e-13, 1e-13)}


@pytest.fixture(params=SOLVERS)
def solve(request):
    solver = SOLVERS[request.param]

    def solve(matrix, vector):
        operator = lxo.MatrixLinearOperator(matrix, lxo.positive_semidefinite_tag)
        return lxa.linear_solve(operator, vector, solver, throw=False).value

    return solve


def truth(matrix, vector):
    return jnp.linalg.solve(matrix, vector)


def symmetric(fn):
    """`fn` of a matrix, as a function of all its elements that stays symmetric."""
    return lambda a, b: fn(a @ a.T, b)


def same(ours, theirs, rtol=1e-8):
    for x, y in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-10)


def _scan(fn):
    def scanned(a, b):
        def body(carry, scale):
            carry = fn(a * scale, carry)
            return carry, carry

        return jax.lax.scan(body, b, jnp.array([1.0, 2.0]))

    return scanned


def _while(fn):
    def looped(a, b):
        def body(carry):
            i, x = carry
            return i + 1, fn(a, x)

        return jax.lax.while_loop(lambda carry: carry[0] < 2, body, (0, b))[1]

    return looped


def _cond(fn):
    return lambda a, b: jax.lax.cond(b[0] > 0, fn, lambda a, b: 2 * fn(a, b), a, b)


def _checkpoint(fn):
    return jax.checkpoint(fn)


def _custom_vjp(fn):
    @jax.custom_vjp
    def wrapped(a, b):
        return fn(a, b)

    def forward(a, b):
        return jax.vjp(fn, a, b)

    def backward(pullback, ct):
        return pullback(ct)

    wrapped.defvjp(forward, backward)
    return wrapped


def _linearize(fn):
    def linearized(a, b):
        _, push = jax.linearize(fn, a, b)
        return push(jnp.ones_like(a), jnp.ones_like(b))

    return linearized


def _linear_transpose(fn):
    def transposed(a, b):
        (out,) = jax.linear_transpose(lambda b: fn(a, b), b)(b)
        return out

    return transposed


def _batch(in_axes):
    def batch(fn):
        def batched(a, b):
            stacked = jnp.stack([a, 2 * a]), jnp.stack([b, 3 * b, -b])
            args = [x[:2] if axis == 0 else x[0] for x, axis in zip(stacked, in_axes)]
            return jax.vmap(fn, in_axes=in_axes)(*args)

        return batched

    return batch


WRAPPERS = {
    "scan": _scan,
    "while_loop": _while,
    "cond": _cond,
    "checkpoint": _checkpoint,
    "custom_vjp": _custom_vjp,
    "linearize": _linearize,
    "linear_transpose": _linear_transpose,
    "vmap both": _batch((0, 0)),
    "vmap operator": _batch((0, None)),
    "vmap vector": _batch((None, 0)),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_wrapped(solve, name):
    """Value, and where JAX allows it the gradient, inside `jit`."""
    wrap = WRAPPERS[name]

    def all_of(fn):
        wrapped = symmetric(wrap(fn))
        out = {"value": wrapped(A, B)}
        out["jvp"] = jax.jvp(wrapped, (A, B), (A.T, B[::-1]))[1]
        if name == "custom_vjp":
            del out["jvp"]
        if name != "while_loop":
            out["grad"] = jax.grad(
                lambda a, b: sum(jnp.sum(x) for x in jax.tree.leaves(wrapped(a, b))),
                argnums=(0, 1),
            )(A, B)
        return out

    if name == "custom_vjp":  # JAX has no forward mode for it
        wrap_value = symmetric(wrap(solve))
        gradient = jax.jit(jax.grad(lambda a, b: jnp.sum(wrap_value(a, b)), (0, 1)))
        reference = jax.grad(lambda a, b: jnp.sum(symmetric(truth)(a, b)), (0, 1))
        same(gradient(A, B), reference(A, B))
        return
    same(jax.jit(lambda: all_of(solve))(), jax.jit(lambda: all_of(truth))())


def _vmap(fn):
    """The mean over a batch of two."""

    def averaged(a, b):
        out = jax.vmap(fn)(jnp.stack([a, 2 * a]), jnp.stack([b, -3 * b]))
        return jnp.mean(out, axis=0)

    return averaged


def _last_of_scan(fn):
    return lambda a, b: _scan(fn)(a, b)[0]


def _shard_map(fn):
    mesh = jax.make_mesh((1,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec()
    return jax.shard_map(fn, mesh=mesh, in_specs=(spec, spec), out_specs=spec)


def _pulled(fn):
    """The gradient with respect to b, of b."""
    return lambda a, b: jax.vjp(lambda b: fn(a, b), b)[1](b)[0]


def _linear_transposed(fn):
    return lambda a, b: jax.linear_transpose(lambda b: fn(a, b), b)(b)[0]


NESTABLE = {
    "jit": jax.jit,
    "vmap": _vmap,
    "scan": _last_of_scan,
    "cond": _cond,
    "checkpoint": _checkpoint,
    "linearize": _linearize,
    "vjp": _pulled,
    "shard_map": _shard_map,
}
ORDERS = [np.random.default_rng(i).permutation(list(NESTABLE))[:6] for i in range(4)]


@pytest.mark.parametrize("order", ORDERS, ids=" ∘ ".join)
def test_nested_in_any_order(order):
    """Six of them around a solve, and the gradient of the whole."""

    def lu(matrix, vector):
        return lxa.linear_solve(
            lxo.MatrixLinearOperator(matrix), vector, lxs.LU(), throw=False
        ).value

    def whole(fn):
        for name in reversed(order):
            fn = NESTABLE[name](fn)
        return jax.jit(jax.value_and_grad(lambda a, b: jnp.sum(fn(a, b)), (0, 1)))

    same(whole(lu)(PSD, B), whole(truth)(PSD, B), rtol=1e-7)


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("transposed", [False, True])
def test_collectives_in_an_operator(size, transposed):
    """Operators that see each other's vectors, by the name of the `vmap`: one system of
    all is solved where the steps are the same for each, as CG's are here."""
    a = jnp.array([[2.0, 3.0]] * size)

    def solve(weights, b):
        def fn(x):
            return weights * x + 0.5 * jax.lax.pmean(x, "i")

        operator = lxo.FunctionLinearOperator(
            fn, jax.ShapeDtypeStruct((2,), b.dtype), lxo.positive_semidefinite_tag
        )
        return lxa.linear_solve(operator, b, lxs.CG(1e-12, 1e-12)).value

    b = jnp.array([[1.0, 2.0]] * size)
    mapped = jax.vmap(solve, axis_name="i")
    if transposed:
        out = jax.vjp(lambda b: mapped(a, b), b)[1](b)[0]
    else:
        out = mapped(a, b)
    same(out, b / (a + 0.5))


@pytest.mark.parametrize("in_axes", [(0, 0), (0, None), (None, 1), (2, 0)])
def test_a_batch_of_one(solve, in_axes):
    """It is solved like no batch: with a loop, if any, that tests no batch."""
    a, b = (
        x if axis is None else jnp.expand_dims(x, axis)
        for x, axis in zip((PSD, B), in_axes)
    )
    mapped = jax.vmap(solve, in_axes)
    same(mapped(a, b), truth(PSD, B)[None])
    same(jax.jacfwd(mapped, 1)(a, b), jax.jacfwd(jax.vmap(truth, in_axes), 1)(a, b))
    # the loop of a batch chooses for each system whether it goes on
    texts = (
        jax.jit(mapped).lower(a, b).as_text(),
        jax.jit(solve).lower(PSD, B).as_text(),
    )
    chosen, alone = (text.count("stablehlo.select") for text in texts)
    assert chosen == alone


@pytest.mark.parametrize("throw", [True, False])
def test_a_batch_of_none(throw):
    """And no right-hand sides: nothing fails, and nothing is raised."""

    def solve(a, b, **options):
        operator = lxo.MatrixLinearOperator(a)
        return lxa.linear_solve(operator, b, throw=throw, **options).value

    def loss(a, b):
        return jnp.sum(jax.vmap(solve)(a, b))

    none = A[None][:0], B[None][:0]
    assert jax.vmap(solve)(*none).shape == (0, 3)
    assert [x.shape for x in jax.grad(loss, (0, 1))(*none)] == [(0, 3, 3), (0, 3)]
    many = jax.jit(lambda a, b: solve(a, b, rhs_axis=0))
    assert many(A, none[1]).shape == (0, 3)
    pulled = jax.grad(lambda a: jnp.sum(many(a, none[1])))(A)
    np.testing.assert_array_equal(pulled, jnp.zeros_like(A))


def test_deep_nesting(solve):
    """vmap of grad of scan of vmap of checkpoint, jitted."""

    def nested(fn):
        def inner(a, b):
            bs = jnp.stack([b, 2 * b])
            return jnp.sum(jax.vmap(jax.checkpoint(fn), in_axes=(None, 0))(a, bs), 0)

        def loss(a, b):
            return jnp.sum(symmetric(_scan(inner))(a, b)[1] ** 2)

        gradient = jax.grad(loss, argnums=(0, 1))
        return jax.jit(jax.vmap(gradient))(jnp.stack([A, A + 1]), jnp.stack([B, -B]))

    same(nested(solve), nested(truth))


def test_operator_built_inside_and_outside():
    def inside(matrix, vector):
        return lxa.linear_solve(lxo.MatrixLinearOperator(matrix), vector).value

    def outside(operator, vector):
        return lxa.linear_solve(operator, vector).value

    same(jax.jit(inside)(A, B), truth(A, B))
    same(jax.jit(outside)(lxo.MatrixLinearOperator(A), B), truth(A, B))
    gradient = eqx.filter_grad(lambda op, b: jnp.sum(outside(op, b)))
    same(
        gradient(lxo.MatrixLinearOperator(A), B).matrix,
        jax.grad(lambda a: jnp.sum(truth(a, B)))(A),
    )
    stacked = eqx.filter_vmap(lxo.MatrixLinearOperator)(jnp.stack([A, 2 * A]))
    out = eqx.filter_vmap(outside, in_axes=(0, None))(stacked, B)
    same(out, jnp.stack([truth(A, B), truth(A, B) / 2]))


def test_constructor_is_differentiable():
    def build(matrix):
        return lxo.MatrixLinearOperator(matrix) @ lxo.MatrixLinearOperator(matrix)

    operator, tangent = eqx.filter_jvp(build, (A,), (jnp.eye(3),))
    direction = lxo.TangentLinearOperator(operator, tangent)
    same(direction.as_matrix(), 2 * A)


def test_linear_in_the_vector_only():
    with pytest.raises(ValueError, match="linear in `vector` alone"):
        jax.linear_transpose(
            lambda a: lxa.linear_solve(lxo.MatrixLinearOperator(a), B).value, A
        )(B)
