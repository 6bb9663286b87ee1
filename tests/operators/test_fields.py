"""An operator is exactly its fields, as a pytree, for `==`, copies and pickles."""

import copy
import functools
import pickle

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import lx_operators as lx
import numpy as np
import pytest

RNG = np.random.default_rng(2)


def matrix(*shape):
    return lx.MatrixLinearOperator(jnp.asarray(RNG.normal(size=shape)))


def asked(operator):
    """The same operator, after questions."""
    for question in (lx.is_symmetric, lx.diagonal, lx.materialise, lx.conj, repr):
        question(operator)
    operator.T, operator.H, operator.in_structure(), operator.as_matrix()
    return operator


@pytest.mark.parametrize("sign", ["+", "@", "gram"])
def test_equal_composites_add(sign):
    a, b = matrix(3, 3), matrix(3, 3)
    build = {"+": lambda: a + b, "@": lambda: a @ b, "gram": lambda: a.T @ a}[sign]
    total = jtu.tree_map(jnp.add, asked(build()), build())
    one = total.operator if sign == "gram" else total.operator1
    np.testing.assert_allclose(one.matrix, 2 * a.matrix)


def test_transpose_in_a_carry():
    """`op.T` has the structure of `op`, for square matrices."""
    a = asked(matrix(3, 3))
    final, traces = jax.lax.scan(
        lambda op, _: (op.T, jnp.trace(op.as_matrix())), a, length=3
    )
    np.testing.assert_array_equal(final.matrix, a.matrix.T)
    gram = asked(a.T @ a)
    final, _ = jax.lax.scan(lambda op, _: (asked(op).T, None), gram, length=3)
    np.testing.assert_array_equal(final.as_matrix(), gram.as_matrix())


def test_transpose_in_a_branch():
    a = asked(matrix(3, 3))

    @jax.jit
    def either(transposed):
        return jax.lax.cond(transposed, lambda: asked(a.T), lambda: a)

    np.testing.assert_array_equal(either(True).matrix, a.matrix.T)
    np.testing.assert_array_equal(either(False).matrix, a.matrix)


def test_derivative_of_what_was_asked():
    """Equinox wants primal and tangent to be the same pytree."""

    def total(m, square):
        a = lx.MatrixLinearOperator(m)
        tagged = lx.TaggedLinearOperator(asked(a.T @ a) if square else a, ())
        return jnp.sum(asked(tagged).as_matrix())

    m = jnp.asarray(RNG.normal(size=(3, 3)))
    np.testing.assert_array_equal(jax.grad(total)(m, False), np.ones((3, 3)))
    # of 1ᵀMᵀM1
    expected = 2 * np.outer(m.sum(axis=1), np.ones(3))
    np.testing.assert_allclose(jax.grad(total)(m, True), expected)


@pytest.mark.parametrize("moves", [(True, True), (True, False), (False, True)])
def test_tangent_of_a_composite(moves):
    """Also where a part of it has no tangent."""
    a, b = (jnp.asarray(RNG.normal(size=(3, 3))) for _ in range(2))
    da, db = (jnp.asarray(RNG.normal(size=(3, 3))) for _ in range(2))

    def build(a, b):
        product = lx.MatrixLinearOperator(a) @ lx.MatrixLinearOperator(b)
        return asked(product + lx.MatrixLinearOperator(a).T)

    tangents = tuple(t if move else None for t, move in zip((da, db), moves))
    primal, tangent = eqx.filter_jvp(build, (a, b), tangents)
    operator = asked(lx.TangentLinearOperator(asked(primal), tangent))
    da, db = (t if move else jnp.zeros_like(t) for t, move in zip((da, db), moves))
    expected = da @ b + a @ db + da.T
    np.testing.assert_allclose(operator.as_matrix(), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(
        operator.T.as_matrix(), expected.T, rtol=1e-12, atol=1e-12
    )


def test_equality():
    narrow, wide = {"x": jnp.zeros(2)}, jax.ShapeDtypeStruct((3,), jnp.zeros(0).dtype)
    one, other = (
        lx.IdentityLinearOperator(*s) for s in ((narrow, wide), (wide, narrow))
    )
    assert asked(one).T == other and one == asked(other).T and one != other
    zero = lx.ZeroLinearOperator(narrow, wide)
    assert zero.T == lx.ZeroLinearOperator(wide, narrow)
    # structures come from arrays, NumPy's arrays and structures, weakly typed or not
    weak = jnp.asarray(1.0) * jnp.ones(3)
    for given in (np.zeros(3), weak, wide):
        assert lx.IdentityLinearOperator(given) == lx.IdentityLinearOperator(wide)
    a = matrix(2, 2)
    tags = lx.symmetric_tag, lx.nonsingular_tag
    assert lx.TaggedLinearOperator(a, tags) == lx.TaggedLinearOperator(a, tags[::-1])
    assert asked(a.T @ a) == a.T @ a and a + a.T == asked(a + a.T)
    order = lx.PermutationLinearOperator([1, 2, 0])
    assert order == lx.PermutationLinearOperator(
        np.array([1, 2, 0], order.permutation.dtype)
    )
    function = functools.partial(lx.FunctionLinearOperator, jnp.flip, wide)
    assert function() == asked(function()) and function().T.T == function()


# Copies and pickles


def double(x):
    return 2.0 * x


def square(x, args):
    return args * x**2


CLOSED = {
    "function": lambda: lx.FunctionLinearOperator(double, jnp.zeros(3)),
    "transpose": lambda: lx.FunctionLinearOperator(jnp.cumsum, jnp.zeros(3)).T,
    "Jacobian": lambda: lx.JacobianLinearOperator(square, jnp.ones(3), 2.0),
    "linearised": lambda: lx.linearise(
        lx.JacobianLinearOperator(square, jnp.ones(3), 2.0)
    ),
    "composite": lambda: matrix(3, 3) @ lx.FunctionLinearOperator(double, jnp.zeros(3)),
}
OPEN = {
    "function": lambda: lx.FunctionLinearOperator(
        double, jnp.zeros(3), closure_convert=False
    ),
    "Jacobian": lambda: lx.JacobianLinearOperator(
        square, jnp.ones(3), 2.0, closure_convert=False
    ),
    "structures": lambda: lx.IdentityLinearOperator({"u": jnp.zeros(3)}, jnp.zeros(4)),
    "pytree": lambda: lx.PyTreeLinearOperator(
        {"u": jnp.ones((2, 3))}, {"u": jax.ShapeDtypeStruct((2,), jnp.zeros(0).dtype)}
    ),
    "gram": lambda: (lambda a: a.T @ a + 2 * (a + a.T))(matrix(3, 3)),
    "tagged": lambda: lx.TaggedLinearOperator(matrix(3, 3), lx.nonsingular_tag),
}


@pytest.mark.parametrize("name", sorted(CLOSED))
def test_traced_functions_are_copied_not_pickled(name):
    operator = CLOSED[name]()
    copied = copy.deepcopy(operator)
    np.testing.assert_array_equal(copied.as_matrix(), operator.as_matrix())
    assert jtu.tree_structure(copied) == jtu.tree_structure(operator)
    with pytest.raises(pickle.PicklingError, match=r"materialise\(operator\)"):
        pickle.dumps(operator)
    stored = pickle.loads(pickle.dumps(lx.materialise(operator)))
    np.testing.assert_array_equal(stored.as_matrix(), operator.as_matrix())


@pytest.mark.parametrize("name", sorted(OPEN))
def test_copies_and_pickles(name):
    operator = OPEN[name]()
    for again in (copy.deepcopy(operator), pickle.loads(pickle.dumps(operator))):
        assert jtu.tree_structure(again) == jtu.tree_structure(operator)
        assert again == operator and repr(again) == repr(operator)
        np.testing.assert_array_equal(again.as_matrix(), operator.as_matrix())


# Arguments that used to be accepted silently


def test_no_number_for_a_structure():
    for build in (
        lambda: lx.FunctionLinearOperator(double, 2),
        lambda: lx.IdentityLinearOperator(3),
        lambda: lx.IdentityLinearOperator(jnp.zeros(3), 3),
        lambda: lx.ZeroLinearOperator(3),
        lambda: lx.PermutationLinearOperator([0], 1),
        lambda: lx.PyTreeLinearOperator(jnp.ones(3), 3),
    ):
        with pytest.raises(
            ValueError, match=r"Python number .*ShapeDtypeStruct\(\(n,\)"
        ):
            build()
    with pytest.raises(ValueError, match=r"ShapeDtypeStruct\(\(2, 3\), dtype\)"):
        lx.FunctionLinearOperator(lambda x: x, (2, 3))
    # arrays will do, of no axis as well
    assert lx.IdentityLinearOperator(jnp.asarray(3.0)).in_size() == 1


@pytest.mark.parametrize("tags", ["symmetric", ["symmetric_tag"], "hermitian"])
def test_no_string_for_a_tag(tags):
    name = "hermitian" if tags == "hermitian" else "symmetric"
    for build in (lx.MatrixLinearOperator, lx.TaggedLinearOperator):
        given = jnp.eye(2) if build is lx.MatrixLinearOperator else matrix(2, 2)
        with pytest.raises(
            ValueError, match=f"such as `{name}_tag`, but got the string"
        ):
            build(given, tags)


def test_no_array_of_an_operator():
    a = matrix(2, 2)
    for convert in (np.asarray, np.array, np.linalg.norm):
        with pytest.raises(TypeError, match=r"`operator\.as_matrix\(\)`"):
            convert(a)
    assert isinstance(np.float64(2) * a, lx.MulLinearOperator)


def test_batches_of_matrices():
    batch = jnp.ones((4, 2, 2))
    with pytest.raises(ValueError, match=r"equinox\.filter_vmap\(MatrixLinearOperator"):
        lx.MatrixLinearOperator(batch)
    operators = jax.vmap(lx.MatrixLinearOperator)(batch)
    with pytest.raises(ValueError, match=r"is a batch: .*equinox\.filter_vmap"):
        operators.mv(jnp.ones(2))
    out = eqx.filter_vmap(lambda op: op.mv(jnp.ones(2)))(operators)
    np.testing.assert_array_equal(out, 2 * np.ones((4, 2)))


def test_sparse_matrices_are_told_what_to_do():
    import scipy.sparse
    from jax.experimental import sparse

    bcoo = sparse.BCOO.fromdense(jnp.eye(2))
    for given, name in (
        (scipy.sparse.eye(2), "scipy"),
        (bcoo, "bcoo"),
        (sparse.BCSR.from_bcoo(bcoo), "bcsr"),
    ):
        advice = rf"`SparseLinearOperator\.from_{name}\(matrix\)`"
        with pytest.raises(ValueError, match=advice):
            lx.MatrixLinearOperator(given)
        with pytest.raises(ValueError, match=advice):
            lx.TaggedLinearOperator(given, lx.symmetric_tag)
        with pytest.raises(ValueError, match=advice):
            lx.linearise(given)
        made = getattr(lx.SparseLinearOperator, f"from_{name}")(given)
        np.testing.assert_array_equal(made.as_matrix(), np.eye(2))


def test_transposing_what_is_not_linear():
    operator = lx.FunctionLinearOperator(lambda x: x**2, jnp.zeros(2))
    with pytest.raises(ValueError, match=r"Is it linear\? `verify\(operator, key\)`"):
        operator.T.mv(jnp.ones(2))


def test_norm_of_nothing_does_not_move():
    from lx_operators.internal import max_norm, rms_norm, two_norm

    nothing = {"a": jnp.zeros(0), "b": jnp.zeros((3, 0))}
    for norm in (max_norm, two_norm, rms_norm):
        for tree in (nothing, {**nothing, "c": jnp.zeros(2)}):
            value, moved = jax.jvp(norm, (tree,), (tree,))
            assert value == 0 and moved == 0


def test_signature_of_a_function():
    """A function of other arguments is refused, with its signature."""
    x = jnp.ones(2)
    with pytest.raises(ValueError, match=r"fn\(x, args\).*arguments are `\(x\)`"):
        lx.JacobianLinearOperator(lambda x: x, x)
    with pytest.raises(ValueError, match=r"fn\(x\).*arguments are `\(a, b\)`"):
        lx.FunctionLinearOperator(lambda a, b: a, x)
    # defaults, any number of arguments, and functions behind a wrapper
    lx.JacobianLinearOperator(lambda x, args=None, more=1: x, x)
    lx.JacobianLinearOperator(lambda *both: both[0], x)
    lx.FunctionLinearOperator(jax.jit(lambda x: x), x)
