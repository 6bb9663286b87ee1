"""The identity, square or rectangular."""

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import PyTree

from .._checks import check_square
from .._functions import conj, diagonal, materialise, tridiagonal
from .._operator import AbstractLinearOperator
from .._promotion import conform, widened
from .._properties import declared
from .._simplify import multiple_of_identity
from .._structures import (
    Frozen,
    Structure,
    cast,
    common_dtype,
    describe,
    dtype_of,
    freeze_structure,
    ravel,
    shape_of,
    structure_of,
    structures_of,
    unravel,
)
from .._tags import diagonal_tag, nonsingular_tag, unit_diagonal_tag


class IdentityLinearOperator(AbstractLinearOperator):
    """The identity. Between two different structures it is the matrix with ones on its
    main diagonal, which pads with zeros or truncates, in leaf order.

    Args:
        input_structure: a pytree of `jax.ShapeDtypeStruct` (or of arrays).
        output_structure: another such pytree; by default the input structure.

    Raises:
        ValueError: one structure is real and the other complex.

    ```python
    operator = lx.IdentityLinearOperator(jax.ShapeDtypeStruct((3,), jnp.float32))
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
        if self.input_structure != self.output_structure:
            _check_complex(*structures_of(self))

    def mv(self, vector):
        vector = conform(vector, self.in_structure(), "the vector")
        if self.input_structure == self.output_structure:
            return vector
        in_structure, out_structure = structures_of(self)
        out_structure = widened(out_structure, structure_of(vector), in_structure)
        flat = ravel(vector)
        m, n = self.out_size(), self.in_size()
        flat = jnp.pad(flat, (0, m - n)) if n < m else flat[:m]
        return jtu.tree_map(
            lambda x, s: cast(x, s.dtype), unravel(flat, out_structure), out_structure
        )

    def as_matrix(self):
        dtype = common_dtype(self.in_structure(), self.out_structure())
        return jnp.eye(self.out_size(), self.in_size(), dtype=dtype)

    def transpose(self):
        if self.input_structure == self.output_structure:
            return self
        return IdentityLinearOperator(self.out_structure(), self.in_structure())

    def in_structure(self):
        return self.input_structure.thaw()

    def out_structure(self):
        return self.output_structure.thaw()

    shape = property(shape_of)
    dtype = property(dtype_of)


def _check_complex(in_structure: Structure, out_structure: Structure) -> None:
    """Complex scalars must map to complex scalars, and real ones to real ones."""

    def kinds(structure: Structure) -> np.ndarray:
        leaves = jtu.tree_leaves(structure)
        complexity = np.array([leaf.dtype.kind == "c" for leaf in leaves], bool)
        return np.repeat(complexity, [leaf.size for leaf in leaves])

    ins, outs = kinds(in_structure), kinds(out_structure)
    n = min(ins.size, outs.size)
    if np.any(ins[:n] != outs[:n]):
        raise ValueError(
            f"`input_structure` {describe(in_structure)} and `output_structure` "
            f"{describe(out_structure)} must be both real or both complex where they "
            "meet: no linear map drops an imaginary part."
        )


@declared.register
def _(operator: IdentityLinearOperator):
    if operator.input_structure == operator.output_structure:
        return frozenset((diagonal_tag, unit_diagonal_tag))
    return frozenset((nonsingular_tag, unit_diagonal_tag))


@materialise.register
def _(operator: IdentityLinearOperator):
    return operator


@diagonal.register
def _(operator: IdentityLinearOperator):
    dtype = common_dtype(operator.in_structure(), operator.out_structure())
    return jnp.ones(min(operator.out_size(), operator.in_size()), dtype)


@tridiagonal.register
def _(operator: IdentityLinearOperator):
    check_square(operator)
    main = diagonal(operator)
    off = jnp.zeros(max(main.size - 1, 0), main.dtype)
    return main, off, off


@conj.register
def _(operator: IdentityLinearOperator):
    return operator


@multiple_of_identity.register
def _(operator: IdentityLinearOperator):
    same = operator.input_structure == operator.output_structure
    return IdentityLinearOperator if same else None
