"""Operators print as something a person can read."""

import jax
import jax.numpy as jnp
import lx_operators as lx
import pytest
from lx_operators._tags import Tag

MINE = Tag("mine")

M = lx.MatrixLinearOperator(jnp.ones((3, 3)), lx.symmetric_tag)
D = lx.DiagonalLinearOperator({"a": jnp.ones(2, "complex64"), "b": jnp.ones(1)})
T = lx.TridiagonalLinearOperator(jnp.ones(3), jnp.ones(2), jnp.ones(2))
I = lx.IdentityLinearOperator(jnp.ones(3), jnp.ones(5))
F = lx.FunctionLinearOperator(lambda x: x, jnp.ones(3), [lx.nonsingular_tag, MINE])
J = lx.JacobianLinearOperator(lambda x, _: x[:2], jnp.ones(3, "float32"))

m, t = "MatrixLinearOperator(f64[3, 3], symmetric)", "TridiagonalLinearOperator"
TEXTS = [
    (M, m),
    (
        lx.MatrixLinearOperator(jnp.ones((100, 80))),
        "MatrixLinearOperator(f64[100, 80])",
    ),
    (D, "DiagonalLinearOperator(c128[3, 3], diagonal)"),
    (T, f"{t}(f64[3, 3], tridiagonal)"),
    (I, "IdentityLinearOperator(f64[5, 3], nonsingular, unit_diagonal)"),
    (F, "FunctionLinearOperator(f64[3, 3], mine, nonsingular)"),
    (J, "JacobianLinearOperator(f32[2, 3])"),
    (M + M, f"{m} + {m}"),
    (M @ M @ M, f"{m} @ {m} @ {m}"),
    ((M + M) @ M, f"({m} + {m}) @ {m}"),
    (2 * (M + M), f"2 * ({m} + {m})"),
    (2 * M, f"2 * {m}"),
    (M / 2.5, f"{m} / 2.5"),
    (jnp.asarray(2.0) * M, f"scalar * {m}"),
    (-M, f"-{m}"),
    (M + -M, f"{m} + -{m}"),
    (
        lx.TaggedLinearOperator(M @ M, MINE),
        f"TaggedLinearOperator({m} @ {m}, mine)",
    ),
    (lx.TangentLinearOperator(M, M), f"TangentLinearOperator({m})"),
]


@pytest.mark.parametrize(("operator", "text"), TEXTS, ids=[text for _, text in TEXTS])
def test_text(operator, text):
    assert repr(operator) == str(operator) == text


def test_while_traced():
    seen = []

    @jax.jit
    def trace(matrix):
        operator = lx.MatrixLinearOperator(matrix)
        seen.append(f"{operator @ operator.T}")
        return operator.mv(matrix[0])

    jax.vmap(jax.grad(lambda m: trace(m).sum()))(jnp.ones((4, 2, 2)))
    text = "MatrixLinearOperator(f64[2, 2])"
    assert seen == [f"{text} @ {text}.T"]


def test_half_built():
    """What fails halfway through its construction prints too."""
    assert repr(object.__new__(lx.MatrixLinearOperator)) == "MatrixLinearOperator(...)"
    unflattened = jax.tree.map(lambda _: None, M)
    assert "MatrixLinearOperator" in repr(
        unflattened + unflattened if False else unflattened
    )
