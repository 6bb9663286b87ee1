"""The tangent of an operator."""

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu

from .._functions import diagonal, tridiagonal
from .._operator import AbstractLinearOperator
from .._printing import ATOM, layout
from .._properties import declared, known
from .._tags import (
    diagonal_tag,
    hermitian_tag,
    lower_triangular_tag,
    symmetric_tag,
    tridiagonal_tag,
    upper_triangular_tag,
)
from ._rules import maps_to_parts

# A tangent keeps the tags that describe linear spaces of operators. Semidefinite,
# nonsingular and unit-diagonal operators form no linear space.
_LINEAR = frozenset(
    (
        symmetric_tag,
        hermitian_tag,
        diagonal_tag,
        tridiagonal_tag,
        lower_triangular_tag,
        upper_triangular_tag,
    )
)


class TangentLinearOperator(AbstractLinearOperator):
    """The derivative of `operator.mv` with respect to the operator, in the direction of
    a tangent: used by the differentiation rules.

    Args:
        primal: an operator.
        tangent: the same pytree, each leaf a tangent of the primal's, or None.

    ```python
    def build(scale):
        return lx.DiagonalLinearOperator(scale * jnp.arange(3.0))

    primal, tangent = eqx.filter_jvp(build, (2.0,), (1.0,))
    lx.TangentLinearOperator(primal, tangent).mv(jnp.ones(3))  # [0., 1., 2.]
    ```
    """

    primal: AbstractLinearOperator
    tangent: AbstractLinearOperator

    def _tangent_of(self, fn):
        out, tangent = eqx.filter_jvp(fn, (self.primal,), (self.tangent,))
        # Equinox gives None for a leaf without a tangent.
        return jtu.tree_map(
            lambda x, t: jnp.zeros_like(x) if t is None else t, out, tangent
        )

    def mv(self, vector):
        return self._tangent_of(lambda operator: operator.mv(vector))

    def as_matrix(self):
        return self._tangent_of(lambda operator: operator.as_matrix())

    def transpose(self):
        return _through(lambda operator: operator.transpose(), self)

    def in_structure(self):
        return self.primal.in_structure()

    def out_structure(self):
        return self.primal.out_structure()


def _through(fn, operator: TangentLinearOperator) -> TangentLinearOperator:
    """The tangent of `fn(primal)`, for a function that returns an operator."""
    primal, tangent = eqx.filter_jvp(fn, (operator.primal,), (operator.tangent,))
    return TangentLinearOperator(primal, tangent)


@declared.register
def _(operator: TangentLinearOperator):
    return known(operator.primal) & _LINEAR


maps_to_parts(TangentLinearOperator, _through)


@diagonal.register
def _(operator: TangentLinearOperator):
    return operator._tangent_of(diagonal)


@tridiagonal.register
def _(operator: TangentLinearOperator):
    return operator._tangent_of(tridiagonal)


@layout.register
def _(operator: TangentLinearOperator):
    inner, _ = layout(operator.primal)
    return f"TangentLinearOperator({inner})", ATOM
