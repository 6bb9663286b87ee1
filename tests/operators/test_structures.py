"""Structures, flat vectors, promotion and norms, on which the other packages build."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lx_operators import DiagonalLinearOperator, MatrixLinearOperator, internal as lxi

DTYPES = ["float32", "float64", "complex64", "complex128"]


def _struct(*shape, dtype="float64"):
    return jax.ShapeDtypeStruct(shape, jnp.dtype(dtype))


def _dtypes(tree):
    return [leaf.dtype.name for leaf in jax.tree.leaves(tree)]


def test_structures_are_plain():
    weak = jnp.asarray(1.0)
    assert weak.weak_type
    assert lxi.structure_of(weak) == lxi.freeze(weak).thaw() == _struct()
    decorated = jax.ShapeDtypeStruct((2,), float, weak_type=True)
    assert not lxi.structure_of(decorated).weak_type
    assert hash(lxi.freeze([weak])) == hash(lxi.freeze([_struct()]))
    assert lxi.freeze(np.arange(3)).thaw() == _struct(3)


def test_ravel_and_back():
    tree = {"a": jnp.arange(4.0).reshape(2, 2), "b": (jnp.float32(4), None)}
    flat = lxi.ravel(tree)
    assert flat.tolist() == [0, 1, 2, 3, 4] and flat.dtype == float
    again = lxi.unravel(flat, lxi.structure_of(tree))
    assert lxi.structure_of(again) == lxi.structure_of(tree)
    jax.tree.map(np.testing.assert_array_equal, again, tree)
    assert lxi.ravel(()).shape == (0,) and lxi.unravel(jnp.zeros(0), ()) == ()


@pytest.mark.parametrize(
    ("leaves", "vector", "expected"),
    [
        (["float32"], "float32", ["float32"]),
        (["float64"], "float32", ["float64"]),
        (["float32"], "float64", ["float64"]),
        (["float32"], "complex64", ["complex64"]),
        (["float64"], "complex64", ["complex128"]),
        (["float32"], "complex128", ["complex128"]),
        (["float32", "float64"], "float64", ["float32", "float64"]),
        (["float32", "float64"], "complex128", ["complex64", "complex128"]),
        (["float32", "complex64"], "complex64", ["float32", "complex64"]),
        (["float32", "complex64"], "complex128", ["float64", "complex128"]),
        (["float16", "float32"], "float64", ["float64", "float64"]),
        (["float16"], "complex64", ["complex64"]),
        (["bfloat16", "float32"], "float32", ["bfloat16", "float32"]),
    ],
)
def test_unravel_drops_nothing_that_fits(leaves, vector, expected):
    structure = [_struct(1, dtype=dtype) for dtype in leaves]
    flat = jnp.ones(len(leaves), vector)
    assert _dtypes(lxi.unravel(flat, structure)) == expected


def test_packed_structures():
    operator = MatrixLinearOperator(jnp.ones((2, 3)))
    packed = lxi.pack_structures(operator)
    assert not jax.tree.leaves(packed)
    assert packed == lxi.pack_structures(MatrixLinearOperator(jnp.zeros((2, 3))))
    assert lxi.transpose_packed_structures(packed) == lxi.pack_structures(operator.T)
    assert lxi.ravel_vector(jnp.ones(2), packed).tolist() == [1, 1]
    assert lxi.unravel_solution(jnp.ones(3), packed).shape == (3,)
    text = r"must have structure f64\[2\], but has f64\[3\]"
    with pytest.raises(ValueError, match=text):
        lxi.ravel_vector(jnp.ones(3), packed)
    assert jax.jit(lambda p: p)(packed) == packed


def test_mixed_leaves_come_back_in_their_dtypes():
    tree = [jnp.ones(2, "float32"), 1j * jnp.ones(1, complex)]
    packed = lxi.pack_structures(DiagonalLinearOperator(tree))
    flat = lxi.ravel_vector(tree, packed)
    assert flat.dtype == complex
    assert _dtypes(lxi.unravel_solution(flat, packed)) == ["float32", "complex128"]


def test_describe():
    tree = {"a": jnp.ones((3, 2)), "b": [jnp.ones((), "complex64"), None]}
    assert lxi.describe(tree) == "{'a': f64[3, 2], 'b': [c64[], None]}"
    assert lxi.describe(jnp.ones(2, "bfloat16")) == "bf16[2]"


def test_real_dtypes():
    names = [lxi.complex_to_real_dtype(dtype).name for dtype in DTYPES]
    assert names == ["float32", "float64", "float32", "float64"]
    assert lxi.default_floating_dtype() == jnp.float64


# Promotion


@pytest.mark.standard_promotion
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("given", [*DTYPES, "int32", "bool"])
def test_promotes_as_jax_does(dtype, given):
    vector = jnp.ones(2, given)
    inexact = jnp.issubdtype(vector.dtype, jnp.inexact)
    wanted = jnp.promote_types(dtype, given if inexact else jnp.float64)
    out = MatrixLinearOperator(jnp.ones((2, 2), dtype)).mv(vector)
    assert out.dtype == wanted and out.tolist() == [2, 2]


@pytest.mark.standard_promotion
def test_weak_vectors_take_the_default_dtype():
    operator = DiagonalLinearOperator(jnp.ones((), "float32"))
    for vector in (1.0, jnp.asarray(1.0), np.float64(1)):
        out = operator.mv(vector)
        assert out.dtype == jnp.float64 and not out.weak_type


# Norms


@pytest.mark.parametrize("dtype", DTYPES)
def test_norms_and_inner_product(dtype):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 5)) + 1j * rng.normal(size=(2, 5))
    x, y = (
        v.astype(dtype) if "complex" in dtype else v.real.astype(dtype) for v in (x, y)
    )
    tree, other = ({"a": jnp.asarray(v[:2]), "b": [jnp.asarray(v[2:])]} for v in (x, y))
    rtol = 1e-5 if dtype in ("float32", "complex64") else 1e-13
    checks = [
        (lxi.two_norm(tree), np.linalg.norm(x)),
        (lxi.rms_norm(tree), np.linalg.norm(x) / np.sqrt(5)),
        (lxi.max_norm(tree), np.max(abs(x))),
        (lxi.sum_squares(tree), np.linalg.norm(x) ** 2),
        (lxi.tree_dot(tree, other), np.vdot(x, y)),
    ]
    for got, wanted in checks:
        np.testing.assert_allclose(got, wanted, rtol=rtol)
    assert lxi.two_norm(tree).dtype == lxi.complex_to_real_dtype(dtype)


@pytest.mark.parametrize("norm", [lxi.two_norm, lxi.rms_norm, lxi.max_norm])
def test_norms_at_the_edges(norm):
    for empty in ((), None, jnp.zeros(0), [jnp.zeros((0, 3))]):
        assert norm(empty) == 0
    zero = [jnp.zeros(2), jnp.zeros(())]
    for gradient in jax.tree.leaves(jax.grad(norm)(zero)):
        assert not np.any(np.isnan(gradient)) and not np.any(gradient)
    assert np.isnan(norm(jnp.array([1.0, np.nan])))
    assert norm(jnp.array([1.0, np.inf])) == np.inf
    for scale in (1e-30, 1e30):  # no square overflows or underflows
        x = jnp.array([3, 4], "float32") * jnp.float32(scale)
        expected = {lxi.two_norm: 5, lxi.rms_norm: 5 / np.sqrt(2), lxi.max_norm: 4}
        np.testing.assert_allclose(norm(x), expected[norm] * scale, rtol=1e-6)


def test_gradient_of_norm():
    x = jnp.array([3.0, 4.0])
    np.testing.assert_allclose(jax.grad(lxi.two_norm)(x), [0.6, 0.8], rtol=1e-15)
    hessian = (np.eye(2) - np.outer([0.6, 0.8], [0.6, 0.8])) / 5
    np.testing.assert_allclose(jax.hessian(lxi.two_norm)(x), hessian, atol=1e-15)
    z = jnp.array([3 + 4j])  # JAX's convention: the conjugate
    np.testing.assert_allclose(jax.grad(lxi.two_norm)(z), [0.6 - 0.8j], rtol=1e-15)
