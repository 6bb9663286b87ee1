"""The operator that maps everything to zero."""

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import PyTree

from .._checks import check_square
from .._functions import conj, diagonal, materialise, tridiagonal
from .._operator import AbstractLinearOperator
from .._promotion import conform, widened
from .._properties import declared
from .._simplify import PRODUCTS, SCALINGS, SUMS, Rewrite, Scaling, both_orders
from .._structures import (
    Frozen,
    Structure,
    common_dtype,
    dtype_of,
    freeze_structure,
    shape_of,
    structure_of,
    structures_of,
)
from .._tags import (
    diagonal_tag,
    negative_semidefinite_tag,
    positive_semidefinite_tag,
)


class ZeroLinearOperator(AbstractLinearOperator):
    """The zero map, between any two spaces.

    It is singular unless it has no elements: solvers for nonsingular operators report
    this, and the pseudoinverse solution is zero.

    Args:
        input_structure: a pytree of `jax.ShapeDtypeStruct` (or of arrays).
        output_structure: another such pytree; by default the input structure.

    ```python
    operator = lx.ZeroLinearOperator(jax.ShapeDtypeStruct((3,), jnp.float32))
    operator.mv(jnp.ones(3))  # [0., 0., 0.]
    ```
    """

    input_structure: Frozen = eqx.field(static=True)
    output_structure: Frozen = eqx.field(static=True)

    def __init__(
        self, input_structure: PyTree, output_structure: Structure | None = None
    ):
        if output_structure is None:
            output_structure = input_structure
        self.input_structure = freeze_structure(input_structure, "input_structure")
        self.output_structure = freeze_structure(output_structure, "output_structure")

    def mv(self, vector):
        ins = self.in_structure()
        vector = conform(vector, ins, "the vector")
        outs = widened(self.out_structure(), structure_of(vector), ins)
        return jtu.tree_map(lambda s: jnp.zeros(s.shape, s.dtype), outs)

    def as_matrix(self):
        dtype = common_dtype(self.in_structure(), self.out_structure())
        return jnp.zeros((self.out_size(), self.in_size()), dtype)

    def transpose(self):
        if self.input_structure == self.output_structure:
            return self
        return ZeroLinearOperator(self.out_structure(), self.in_structure())

    def in_structure(self):
        return self.input_structure.thaw()

    def out_structure(self):
        return self.output_structure.thaw()

    shape = property(shape_of)
    dtype = property(dtype_of)


@declared.register
def _(operator: ZeroLinearOperator):
    if operator.input_structure == operator.output_structure:
        return frozenset(
            (diagonal_tag, positive_semidefinite_tag, negative_semidefinite_tag)
        )
    return frozenset()


@materialise.register
def _(operator: ZeroLinearOperator):
    return operator


@diagonal.register
def _(operator: ZeroLinearOperator):
    dtype = common_dtype(operator.in_structure(), operator.out_structure())
    return jnp.zeros(min(operator.out_size(), operator.in_size()), dtype)


@tridiagonal.register
def _(operator: ZeroLinearOperator):
    check_square(operator)
    main = diagonal(operator)
    return main, main[1:], main[1:]


@conj.register
def _(operator: ZeroLinearOperator):
    return operator


_ANY = AbstractLinearOperator


def _product(a, b):
    return ZeroLinearOperator(structures_of(b)[0], structures_of(a)[1])


SUMS.extend(both_orders("A + 0 = A", _ANY, ZeroLinearOperator, lambda a, zero: a))
PRODUCTS.extend(
    (
        Rewrite("0 A = 0", ZeroLinearOperator, _ANY, _product),
        Rewrite("A 0 = 0", _ANY, ZeroLinearOperator, _product),
    )
)
SCALINGS.append(Scaling("s 0 = 0", ZeroLinearOperator, lambda a, s: a))
