"""A matrix in blocks."""

import jax
import jax.numpy as jnp
import lx_operators as lx
import numpy as np
import pytest
from lx_operators.testing import OperatorLaws


def _blocks(dtype, key, outs, ins):
    """Blocks of tree(out) ∘ tree(in), from trees of shapes."""

    def is_shape(node):
        return isinstance(node, tuple) and all(isinstance(n, int) for n in node)

    keys = iter(jax.random.split(key, 16))
    blocks = jax.tree.map(
        lambda out: jax.tree.map(
            lambda in_: jax.random.normal(next(keys), out + in_, dtype),
            ins,
            is_leaf=is_shape,
        ),
        outs,
        is_leaf=is_shape,
    )
    structure = jax.tree.map(
        lambda out: jax.ShapeDtypeStruct(out, jnp.dtype(dtype)), outs, is_leaf=is_shape
    )
    return blocks, structure


class TestBlocks(OperatorLaws):
    dtypes = ("float32", "complex128")

    def make(self, dtype, key):
        blocks, out = _blocks(dtype, key, {"u": (2,), "v": ()}, [(2, 2), ()])
        return lx.PyTreeLinearOperator(blocks, out)

    def matrix(self, operator):
        (u1, u2), (v1, v2) = operator.pytree["u"], operator.pytree["v"]
        top = np.concatenate([u1.reshape(2, 4), u2.reshape(2, 1)], axis=1)
        low = np.concatenate([v1.reshape(1, 4), v2.reshape(1, 1)], axis=1)
        return np.concatenate([top, low])


class TestSymmetric(OperatorLaws):
    dtypes = ("float64", "complex128")
    differentiable = False  # the tangent is not symmetric

    def make(self, dtype, key):
        a = jax.random.normal(key, (2, 2), dtype)
        b = jnp.arange(2.0).astype(dtype)
        blocks = [[a + a.T, b], [b, jnp.ones((), dtype)]]
        out = [jax.ShapeDtypeStruct(shape, a.dtype) for shape in ((2,), ())]
        return lx.PyTreeLinearOperator(blocks, out, lx.symmetric_tag)


@pytest.mark.standard_promotion
@pytest.mark.skipif(not jax.config.jax_enable_x64, reason="two widths of numbers")
class TestMixedPrecision(OperatorLaws):
    """float32 and float64 leaves on both sides."""

    dtypes = ("float64", "complex128")
    promotes = False  # leaves promote one by one

    def make(self, dtype, key):
        narrow = {"float64": "float32", "complex128": "complex64"}[dtype]
        k1, k2, k3, k4 = jax.random.split(key, 4)
        blocks = [
            [
                jax.random.normal(k1, (2, 2), narrow),
                jax.random.normal(k2, (2, 1), dtype),
            ],
            [jax.random.normal(k3, (2,), narrow), jax.random.normal(k4, (1,), dtype)],
        ]
        out = [jax.ShapeDtypeStruct((2,), narrow), jax.ShapeDtypeStruct((), dtype)]
        return lx.PyTreeLinearOperator(blocks, out)


class TestRealAndComplex(OperatorLaws):
    """A real leaf and a complex one, which do not mix."""

    dtypes = ("complex128",)
    promotes = False
    differentiable = False  # the tangent may mix them

    def make(self, dtype, key):
        k1, k2 = jax.random.split(key)
        blocks = [
            [jax.random.normal(k1, (2, 2)), jnp.zeros((2, 1))],
            [jnp.zeros((1, 2)), jax.random.normal(k2, (1, 1), dtype)],
        ]
        real = jnp.finfo(dtype).dtype
        out = [jax.ShapeDtypeStruct((2,), real), jax.ShapeDtypeStruct((1,), dtype)]
        return lx.PyTreeLinearOperator(blocks, out)


class TestEmptyLeaf(OperatorLaws):
    dtypes = ("float64",)

    def make(self, dtype, key):
        blocks, out = _blocks(dtype, key, [(2,), (0,)], {"x": (0, 3), "y": (2,)})
        return lx.PyTreeLinearOperator(blocks, out)


class TestNoOutput(OperatorLaws):
    """An empty tree out; what comes in must be said."""

    dtypes = ("float64",)

    def make(self, dtype, key):
        structure = [jax.ShapeDtypeStruct((2,), dtype)]
        return lx.PyTreeLinearOperator((), (), input_structure=structure)


class TestNoInput(OperatorLaws):
    dtypes = ("float64",)

    def make(self, dtype, key):
        return lx.PyTreeLinearOperator([()], [jax.ShapeDtypeStruct((2,), dtype)])


def test_what_jacobian_returns():
    x = {"a": jnp.arange(3.0), "b": jnp.ones(())}
    fn = lambda x: (x["a"] * x["b"], jnp.sum(x["a"]) ** 2)  # noqa: E731
    operator = lx.PyTreeLinearOperator(jax.jacobian(fn)(x), jax.eval_shape(fn, x))
    _, expected = jax.jvp(fn, (x,), (x,))
    got = operator.mv(x)
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for a, b in zip(got, expected):
        np.testing.assert_allclose(a, b, rtol=1e-14)


def test_diagonal_is_stored_as_such():
    blocks = [[jnp.diag(jnp.arange(2.0)), jnp.ones((2, 1))], [jnp.ones((1, 2))] * 2]
    blocks[1][1] = jnp.full((1, 1), 5.0)
    out = [jax.ShapeDtypeStruct((n,), float) for n in (2, 1)]
    stored = lx.materialise(lx.PyTreeLinearOperator(blocks, out, lx.diagonal_tag))
    assert isinstance(stored, lx.DiagonalLinearOperator)
    assert [leaf.tolist() for leaf in stored.diagonal] == [[0.0, 1.0], [5.0]]


def test_python_numbers_and_arrays_as_structure():
    operator = lx.PyTreeLinearOperator([1, 2.0], [jnp.ones(()), np.ones(())])
    assert operator.mv(jnp.asarray(3)) == [3.0, 6.0]


_OUT = [jax.ShapeDtypeStruct((2,), "float64")] * 2


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([jnp.ones((2, 3))], "`output_structure` must be a prefix of the tree"),
        ([jnp.ones((2, 3)), jnp.ones((3, 2))], "shape of its output leaf followed by"),
        ([jnp.ones((2, 3)), jnp.ones((2, 4))], "must have the same input structure"),
        ([jnp.ones((2, 3)), [jnp.ones((2, 3))]], "must have the same input structure"),
        ([jnp.ones((2, 3)), 1j * jnp.ones((2, 3), complex)], "make that complex"),
    ],
)
def test_inconsistent_blocks(blocks, message):
    with pytest.raises(ValueError, match=message):
        lx.PyTreeLinearOperator(blocks, _OUT)


def test_inconsistent_input_structure():
    with pytest.raises(
        ValueError, match=r"`input_structure` is f64\[2\], but .*f64\[3\]"
    ):
        lx.PyTreeLinearOperator(jnp.ones((2, 3)), _OUT[0], input_structure=jnp.zeros(2))


def test_real_to_complex_has_no_transpose():
    operator = lx.PyTreeLinearOperator(
        1j * jnp.ones((2, 2), complex),
        jax.ShapeDtypeStruct((2,), "complex128"),
        input_structure=jax.ShapeDtypeStruct((2,), "float64"),
    )
    assert operator.mv(jnp.ones(2)).tolist() == [2j, 2j]
    with pytest.raises(ValueError, match="make its input complex"):
        operator.T  # noqa: B018
