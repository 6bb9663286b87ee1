"""The scalings s·A, A/s and -A."""

import functools
import math
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Inexact, PyTree, Scalar

from .._blocks import (
    block_grid,
    block_tridiagonal,
    block_tridiagonal_of,
    blocks_mapped,
)
from .._checks import check_operator
from .._composite import cached, map_parts, with_parts
from .._functions import (
    adjoint_product,
    bands,
    bandwidths,
    conj,
    diagonal,
    divide,
    linearise,
    materialise,
    negate,
    scale,
    tridiagonal,
)
from .._operator import NUMBERS, AbstractLinearOperator
from .._printing import PRODUCT, layout, within
from .._promotion import promoted_mv
from .._provenance import Reflection, reflected_product
from .._simplify import SCALINGS, multiple_of_identity, simplified, unwrapped, view
from .._tags import (
    Tag,
    Tags,
    diagonal_tag,
    hermitian_tag,
    lower_triangular_tag,
    negative_semidefinite_tag,
    nonsingular_tag,
    positive_semidefinite_tag,
    symmetric_tag,
    tridiagonal_tag,
    unit_diagonal_tag,
    upper_triangular_tag,
)
from ._rules import Rule, all_have, any_of, declare, maps_to_parts
from ._scalars import (
    Signed,
    as_signed,
    checked_scalar,
    conj_scalar,
    is_complex,
    number,
    scalar_text,
    scaled_dtype,
    scaled_structure,
)


class AbstractScaling(AbstractLinearOperator):
    """An operator times, or over, a scalar."""

    operator: eqx.AbstractVar[AbstractLinearOperator]
    scalar: eqx.AbstractVar[Any]

    def mv(self, vector):
        return scaled(self, promoted_mv(self.operator, vector))

    def as_matrix(self):
        return scaled(self, self.operator.as_matrix())

    def transpose(self):
        return map_parts(lambda part: part.T, self)

    @cached
    def in_structure(self):
        return scaled_structure(self.operator.in_structure(), self.scalar)

    @cached
    def out_structure(self):
        return scaled_structure(self.operator.out_structure(), self.scalar)


class MulLinearOperator(AbstractScaling):
    """An operator times a scalar; `scalar * operator` builds it.

    Args:
        operator: an operator.
        scalar: a Python number, which stays one, so that its sign is known to the tags;
            or an array of shape `[]`.

    Raises:
        ValueError: not an operator, or not a scalar.

    ```python
    definite = lx.TaggedLinearOperator(
        lx.MatrixLinearOperator(jnp.eye(3)), lx.positive_semidefinite_tag
    )
    lx.is_negative_semidefinite(-2 * definite)  # True
    ```
    """

    operator: AbstractLinearOperator
    scalar: Any

    def __init__(self, operator: AbstractLinearOperator, scalar: Scalar | complex):
        check_operator(operator, "operator")
        self.operator = operator
        self.scalar = checked_scalar(scalar, "*", operator)


class DivLinearOperator(AbstractScaling):
    """An operator over a scalar; `operator / scalar` builds it.

    Args:
        operator: an operator.
        scalar: as in `MulLinearOperator`.

    Raises:
        ValueError: not an operator, or not a scalar.

    ```python
    halved = lx.MatrixLinearOperator(jnp.eye(3)) / 2
    ```
    """

    operator: AbstractLinearOperator
    scalar: Any

    def __init__(self, operator: AbstractLinearOperator, scalar: Scalar | complex):
        check_operator(operator, "operator")
        self.operator = operator
        self.scalar = checked_scalar(scalar, "/", operator)


class NegLinearOperator(AbstractScaling):
    """The negative of an operator; `-operator` builds it.

    Args:
        operator: an operator.

    Raises:
        ValueError: not an operator.

    ```python
    downwards = -lx.MatrixLinearOperator(jnp.eye(3))
    ```
    """

    operator: AbstractLinearOperator
    scalar: ClassVar[int] = -1  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, operator: AbstractLinearOperator):
        check_operator(operator, "operator")
        self.operator = operator


def signed(tree: PyTree) -> PyTree:
    """The same operators (in a pytree), with `Signed` scalars in place of Python
    numbers; the pytree itself if it holds no Python number.

    Numbers that are not finite stay as they are.
    """
    if not any(isinstance(leaf, NUMBERS) for leaf in jtu.tree_leaves(tree)):
        return tree

    def one(node: Any) -> Any:
        if not isinstance(node, MulLinearOperator | DivLinearOperator):
            return node
        return _like(node, signed(node.operator), as_signed(node.scalar))

    def is_scaling(node: Any) -> bool:
        return isinstance(node, MulLinearOperator | DivLinearOperator)

    return jtu.tree_map(one, tree, is_leaf=is_scaling)


def scaled(
    operator: AbstractScaling, values: PyTree[Inexact[Array, "..."]]
) -> PyTree[Inexact[Array, "..."]]:
    """The operator's scaling, applied to arrays."""
    if isinstance(operator, NegLinearOperator):
        return jtu.tree_map(jnp.negative, values)
    s = operator.scalar
    value = s.value if isinstance(s, Signed) else s

    def one(x: Array) -> Array:
        dtype = scaled_dtype(x.dtype, s)
        x, scalar = x.astype(dtype), jnp.asarray(value, dtype)
        return x * scalar if isinstance(operator, MulLinearOperator) else x / scalar

    return jtu.tree_map(one, values)


maps_to_parts(AbstractScaling, generics=(linearise, materialise))


@conj.register
def _(operator: AbstractScaling):
    return _like(operator, conj(operator.operator), conj_scalar(operator.scalar))


def _like(operator: AbstractScaling, of: AbstractLinearOperator, scalar: Any) -> Any:
    """The same kind of scaling, with another operator and scalar."""
    clone = with_parts(operator, of)
    if not isinstance(operator, NegLinearOperator):
        object.__setattr__(clone, "scalar", scalar)
    return clone


@adjoint_product.register
def _(operator: AbstractScaling):
    part = operator.operator
    adjoint = _like(operator, part, conj_scalar(operator.scalar))
    return lambda y: scaled(adjoint, reflected_product(part, Reflection.ADJOINT, y))


@diagonal.register
def _(operator: AbstractScaling):
    return scaled(operator, diagonal(operator.operator))


@tridiagonal.register
def _(operator: AbstractScaling):
    return scaled(operator, tridiagonal(operator.operator))


# Tags. The value of a scalar is known only if it is a Python number.


def kept_if(condition: Callable[[complex], bool], tag: Tag) -> Rule:
    """The tag is kept if the scalar is known and meets the condition."""

    def rule(op, a: Tags) -> bool:
        value = number(op.scalar)
        return value is not None and condition(value) and tag in a

    return rule


def kept_if_real(tag: Tag) -> Rule:
    return lambda op, a: tag in a and not is_complex(op.scalar)


def positive(s: complex) -> bool:
    return not isinstance(s, complex) and s > 0


def negative(s: complex) -> bool:
    return not isinstance(s, complex) and s < 0


def zero(s: complex) -> bool:
    return s == 0


def one(s: complex) -> bool:
    return s == 1


def invertible(s: complex) -> bool:
    parts = (s.real, s.imag)
    return s != 0 and all(math.isfinite(part) for part in parts)


_psd, _nsd = positive_semidefinite_tag, negative_semidefinite_tag
_KEPT = (symmetric_tag, diagonal_tag, tridiagonal_tag)
_KEPT += (lower_triangular_tag, upper_triangular_tag)


def _flipped(tag: Tag, opposite: Tag) -> Rule:
    """A semidefinite tag under a scaling: kept by s > 0, the opposite's by s < 0."""
    return any_of(kept_if(positive, tag), kept_if(negative, opposite))


def _annulled(tag: Tag, opposite: Tag) -> Rule:
    """Zero times a semidefinite operator is both positive and negative semidefinite."""
    return any_of(_flipped(tag, opposite), kept_if(zero, tag), kept_if(zero, opposite))


_DIVISION: dict[Tag, Rule] = {tag: all_have(tag) for tag in _KEPT} | {
    hermitian_tag: kept_if_real(hermitian_tag),
    unit_diagonal_tag: kept_if(one, unit_diagonal_tag),
    _psd: _flipped(_psd, _nsd),
    _nsd: _flipped(_nsd, _psd),
    nonsingular_tag: kept_if(invertible, nonsingular_tag),
}
_MULTIPLICATION = _DIVISION | {_psd: _annulled(_psd, _nsd), _nsd: _annulled(_nsd, _psd)}
declare(MulLinearOperator, _MULTIPLICATION)
declare(DivLinearOperator, _DIVISION)
declare(NegLinearOperator, _DIVISION)


# The signs


class Scale:
    """The scaling of a composite (s·, ·/s or -), for other operators."""

    def __init__(self, plain: AbstractScaling):
        self.plain = plain

    def __call__(self, operator: AbstractLinearOperator) -> AbstractLinearOperator:
        match self.plain:
            case MulLinearOperator(scalar=s):
                return scale(operator, s)
            case DivLinearOperator(scalar=s):
                return divide(operator, s)
        return negate(operator)

    def array(self, x: Any) -> Any:
        return scaled(self.plain, x)

    def complex(self) -> bool:
        """Whether s is a complex number."""
        return is_complex(self.plain.scalar)


@scale.register
def _(operator: AbstractLinearOperator, scalar: Any):
    return _simplified(MulLinearOperator(operator, scalar))


@divide.register
def _(operator: AbstractLinearOperator, scalar: Any):
    return _simplified(DivLinearOperator(operator, scalar))


@negate.register
def _(operator: AbstractLinearOperator):
    return _simplified(NegLinearOperator(operator))


def _simplified(plain: AbstractScaling) -> AbstractLinearOperator:
    return simplified(plain, SCALINGS, plain.operator, Scale(plain))


@unwrapped.register
def _(operator: AbstractScaling):
    inner = functools.partial(unwrapped, operator.operator)
    return view(operator, SCALINGS, inner, lambda: Scale(operator))


@multiple_of_identity.register
def _(operator: AbstractScaling):
    inner = multiple_of_identity(unwrapped(operator.operator))
    if inner is None:
        return None
    again = Scale(operator)
    return lambda structure: again(inner(structure))


@bandwidths.register
def _(operator: AbstractScaling):
    return bandwidths(operator.operator)


@bands.register
def _(operator: AbstractScaling):
    return scaled(operator, bands(operator.operator))


@block_tridiagonal.register
def _(operator: AbstractScaling):
    return block_tridiagonal_of(operator, lambda blocks: scaled(operator, blocks))


@block_grid.register
def _(operator: AbstractScaling):
    inner = block_grid(operator.operator)
    return None if inner is None else blocks_mapped(inner, Scale(operator))


@layout.register
def _(operator: MulLinearOperator):
    return (
        f"{scalar_text(operator.scalar)} * {within(operator.operator, PRODUCT)}",
        PRODUCT,
    )


@layout.register
def _(operator: DivLinearOperator):
    return (
        f"{within(operator.operator, PRODUCT)} / {scalar_text(operator.scalar)}",
        PRODUCT,
    )


@layout.register
def _(operator: NegLinearOperator):
    return f"-{within(operator.operator, PRODUCT)}", PRODUCT
