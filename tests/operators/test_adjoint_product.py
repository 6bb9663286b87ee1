"""Products with the adjoint, by the parts of an operator."""

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import lx_operators as lx
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from lx_operators.internal import adjoint_product

M = lx.MatrixLinearOperator
VECTORS = (jax.ShapeDtypeStruct((3,), "complex128"),) * 2
FORMS = {
    "matrix": M,
    "pytree": lambda a: lx.PyTreeLinearOperator(((a, a), (2 * a, a)), VECTORS),
    "times": lambda a: (2 + 1j) * M(a),
    "over": lambda a: M(a) / (2 + 1j),
    "negative": lambda a: -(2 * M(a)),
    "tagged": lambda a: lx.TaggedLinearOperator(M(a), lx.nonsingular_tag),
    "sum": lambda a: M(a) - M(a * a),
    "shifted": lambda a: M(a) + lx.DiagonalLinearOperator(a[0]),
    "product": lambda a: M(a) @ M(a * a),
    "block": lambda a: lx.BlockLinearOperator([[M(a), M(2 * a)], [None, M(a)]]),
    "block diagonal": lambda a: lx.BlockDiagonalLinearOperator([M(a), M(2 * a)]),
    "stacked": lambda a: lx.StackedLinearOperator(jax.vmap(M)(jnp.stack([a, 2 * a]))),
    "update": lambda a: lx.LowRankUpdateLinearOperator(
        M(a), a[:, :1], a[:1, :1], a[:, 1:2]
    ),
    "nested": lambda a: 2 * (M(a) + M(a) @ (M(2 * a) - M(a * a))),
}


@pytest.mark.parametrize("form", FORMS)
def test_no_matrix_is_transposed(form):
    """A transposed matrix within a loop is read against the order of memory, or copied
    in each step."""
    a = jnp.asarray(np.random.default_rng(0).standard_normal((3, 3, 2)) @ [1, 1j])
    operator = FORMS[form](a)
    y = jtu.tree_map(lambda s: jnp.ones(s.shape, s.dtype), operator.out_structure())

    def product(a, y):
        return adjoint_product(FORMS[form](a))(y)

    assert "stablehlo.transpose" not in jax.jit(product).lower(a, y).as_text()
    ours, dense = ravel_pytree(product(a, y))[0], np.asarray(operator.as_matrix())
    np.testing.assert_allclose(ours, dense.conj().T @ ravel_pytree(y)[0], rtol=1e-14)
