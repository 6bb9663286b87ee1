"""The tangent of an operator. (Its values are a law of every operator.)"""

import equinox as eqx
import jax.numpy as jnp
import lx_operators as lx
import numpy as np


def _tangent(operator, **arrays):
    tangent = eqx.filter(operator, lambda _: False)
    for name, array in arrays.items():
        tangent = eqx.tree_at(
            lambda t, name=name: getattr(t, name),
            tangent,
            array,
            is_leaf=lambda x: x is None,
        )
    return lx.TangentLinearOperator(operator, tangent)


def test_what_a_tangent_keeps():
    """Linear properties; neither definiteness nor rank."""
    tags = lx.positive_semidefinite_tag, lx.nonsingular_tag, lx.tridiagonal_tag
    operator = lx.MatrixLinearOperator(jnp.eye(2), tags)
    tangent = _tangent(operator, matrix=-jnp.eye(2))
    assert lx.is_symmetric(tangent) and lx.is_tridiagonal(tangent)
    assert not lx.is_positive_semidefinite(tangent) and not lx.is_nonsingular(tangent)
    unit = lx.MatrixLinearOperator(jnp.eye(2), lx.unit_diagonal_tag)
    assert not lx.has_unit_diagonal(_tangent(unit, matrix=jnp.ones((2, 2))))


def test_nothing_moves():
    tangent = _tangent(lx.MatrixLinearOperator(jnp.eye(2)))
    assert tangent.mv(jnp.ones(2)).tolist() == [0.0, 0.0]
    assert tangent.as_matrix().tolist() == [[0.0, 0.0]] * 2
    assert tangent.T.mv(jnp.ones(2)).tolist() == [0.0, 0.0]
    assert lx.diagonal(tangent).tolist() == [0.0, 0.0]


def test_moves_with_the_point_of_a_jacobian():
    """∂/∂x of the Jacobian of sin is -sin, also after linearising and materialising."""
    x, dx = jnp.arange(1.0, 4), jnp.array([1.0, 0.0, 2.0])
    operator = lx.JacobianLinearOperator(lambda x, _: jnp.sin(x), x)
    tangent = _tangent(operator, x=dx)
    expected = np.diag(-np.sin(x) * dx)
    for moved in (
        tangent,
        lx.linearise(tangent),
        lx.materialise(tangent),
        tangent.T,
        lx.linearise(tangent).T,
        tangent.H,
    ):
        np.testing.assert_allclose(moved.as_matrix(), expected, rtol=1e-14)
        np.testing.assert_allclose(moved.mv(dx), expected @ dx, rtol=1e-14)


def test_of_a_product():
    """d(AB) = dA B + A dB."""
    a, b, da, db = (np.random.default_rng(i).normal(size=(3, 3)) for i in range(4))

    def build(a, b):
        return lx.MatrixLinearOperator(a) @ lx.MatrixLinearOperator(b)

    product, moved = eqx.filter_jvp(build, (jnp.array(a), jnp.array(b)), (da, db))
    tangent = lx.TangentLinearOperator(product, moved)
    np.testing.assert_allclose(tangent.as_matrix(), da @ b + a @ db, rtol=1e-13)
    np.testing.assert_allclose(
        lx.diagonal(tangent), np.diagonal(da @ b + a @ db), rtol=1e-13
    )
