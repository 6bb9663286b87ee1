"""The scalings s·A, A/s and -A."""

import cmath
import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Inexact, PyTree, Scalar

from .._checks import check_operator
from .._functions import (
    conj,
    diagonal,
    linearise,
    materialise,
    tridiagonal,
)
from .._operator import NUMBERS, AbstractLinearOperator, scalar
from .._parts import map_parts, once, with_parts
from .._printing import PRODUCT, layout, within
from .._promotion import product, strict_promotion
from .._structures import Structure, common_dtype, describe, promote_types, spaces


class MulLinearOperator(AbstractLinearOperator):
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
        self.scalar = _scalar(scalar, "*", operator)

    def mv(self, vector):
        return scaled(self, product(self.operator, vector))

    def as_matrix(self):
        return scaled(self, self.operator.as_matrix())

    def transpose(self):
        return map_parts(lambda part: part.T, self)

    @once
    def in_structure(self):
        return _structure(self.operator.in_structure(), self.scalar)

    @once
    def out_structure(self):
        return _structure(self.operator.out_structure(), self.scalar)


class DivLinearOperator(AbstractLinearOperator):
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
        self.scalar = _scalar(scalar, "/", operator)

    def mv(self, vector):
        return scaled(self, product(self.operator, vector))

    def as_matrix(self):
        return scaled(self, self.operator.as_matrix())

    def transpose(self):
        return map_parts(lambda part: part.T, self)

    @once
    def in_structure(self):
        return _structure(self.operator.in_structure(), self.scalar)

    @once
    def out_structure(self):
        return _structure(self.operator.out_structure(), self.scalar)


class NegLinearOperator(AbstractLinearOperator):
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

    def __init__(self, operator: AbstractLinearOperator):
        check_operator(operator, "operator")
        self.operator = operator

    def mv(self, vector):
        return scaled(self, product(self.operator, vector))

    def as_matrix(self):
        return scaled(self, self.operator.as_matrix())

    def transpose(self):
        return map_parts(lambda part: part.T, self)

    def in_structure(self):
        return self.operator.in_structure()

    def out_structure(self):
        return self.operator.out_structure()


_Scaling = MulLinearOperator | DivLinearOperator | NegLinearOperator


@jtu.register_dataclass
@dataclasses.dataclass(frozen=True)
class Signed:
    """A Python number as a scalar whose value is an array, so that one program serves
    all values; `like` is a number of which the tags say the same."""

    value: Array
    like: complex = dataclasses.field(metadata={"static": True})


def signed(tree: PyTree) -> PyTree:
    """The same operators (in a pytree), their Python scalars `Signed`; the pytree
    itself, if it holds no Python number.

    Numbers that are not finite stay as they are.
    """
    if not any(isinstance(leaf, NUMBERS) for leaf in jtu.tree_leaves(tree)):
        return tree

    def one(node: Any) -> Any:
        if not isinstance(node, MulLinearOperator | DivLinearOperator):
            return node
        clone = with_parts(node, signed(node.operator))
        object.__setattr__(clone, "scalar", _signed(node.scalar))
        return clone

    def is_scaling(node: Any) -> bool:
        return isinstance(node, MulLinearOperator | DivLinearOperator)

    return jtu.tree_map(one, tree, is_leaf=is_scaling)


def _signed(scalar: Any) -> Any:
    if not isinstance(scalar, NUMBERS) or not cmath.isfinite(scalar):
        return scalar
    value = scalar if isinstance(scalar, complex) else float(scalar)
    like = value
    if value not in (0, 1):
        like = 2j if isinstance(value, complex) else math.copysign(2.0, value)
    return Signed(jnp.asarray(value), like)


def number(scalar: Any) -> complex | None:
    """A Python number that stands for the scalar where tags are decided; None if its
    sign is not known."""
    if isinstance(scalar, Signed):
        return scalar.like
    return scalar if isinstance(scalar, NUMBERS) else None


def is_complex(scalar: Any) -> bool:
    return jnp.iscomplexobj(scalar.value if isinstance(scalar, Signed) else scalar)


def _scalar(value: Any, sign: str, operator: AbstractLinearOperator) -> Any:
    """A scalar as it is; an integer array in the operator's dtype."""
    if isinstance(value, Signed):
        return value
    value = scalar(value, sign)
    if isinstance(value, jax.Array) and not jnp.issubdtype(value.dtype, jnp.inexact):
        value = value.astype(common_dtype(operator.out_structure()))
    if strict_promotion():
        _check_dtypes(value, sign, operator)
    return value


def _check_dtypes(value: Any, sign: str, operator: AbstractLinearOperator) -> None:
    """Strict promotion lets a Python number through that is no complex among reals."""
    kind = _python_kind(value)
    for leaf in jtu.tree_leaves(spaces(operator)):
        same = leaf.dtype == (_dtype(leaf.dtype, value) if kind else value.dtype)
        if not same:
            raise ValueError(
                f"operator `{sign}` got a scalar of dtype "
                f"{'complex' if kind else value.dtype} for an operator of dtype "
                f"{describe(leaf)}, and `jax_numpy_dtype_promotion` is 'strict'; cast "
                "one of them, or allow promotion by "
                "`jax.numpy_dtype_promotion('standard')`."
            )


def _python_kind(scalar: Any) -> type | None:
    """`float` or `complex` of a Python number, or of an array that is weakly typed as
    one (which a Python number becomes when it crosses `jit`); None of other arrays."""
    if isinstance(scalar, jax.Array) and not scalar.weak_type:
        return None
    return complex if is_complex(scalar) else float


def _dtype(dtype: Any, scalar: Any) -> Any:
    """The dtype of `scalar` times something of `dtype`."""
    match _python_kind(scalar):
        case None:
            return promote_types(dtype, scalar.dtype)
        case kind if kind is complex:
            return promote_types(dtype, jnp.complex64)
    return dtype


def _structure(structure: Structure, scalar: Any) -> Structure:
    return jtu.tree_map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, _dtype(leaf.dtype, scalar)),
        structure,
    )


def scaled(
    operator: _Scaling, values: PyTree[Inexact[Array, "..."]]
) -> PyTree[Inexact[Array, "..."]]:
    """The operator's scaling, applied to arrays."""

    if isinstance(operator, NegLinearOperator):
        return jtu.tree_map(jnp.negative, values)
    s = operator.scalar
    value = s.value if isinstance(s, Signed) else s

    def one(x: Array) -> Array:
        dtype = _dtype(x.dtype, s)
        x, scalar = x.astype(dtype), jnp.asarray(value, dtype)
        return x * scalar if isinstance(operator, MulLinearOperator) else x / scalar

    return jtu.tree_map(one, values)


@linearise.register
def _(operator: _Scaling):
    return map_parts(linearise, operator)


@materialise.register
def _(operator: _Scaling):
    return map_parts(materialise, operator)


@conj.register
def _(operator: NegLinearOperator):
    return map_parts(conj, operator)


@conj.register
def _(operator: MulLinearOperator):
    return MulLinearOperator(conj(operator.operator), _conj(operator.scalar))


@conj.register
def _(operator: DivLinearOperator):
    return DivLinearOperator(conj(operator.operator), _conj(operator.scalar))


def _conj(scalar: Any) -> Any:
    match scalar:
        case Signed(value=value, like=like):
            return Signed(jnp.conj(value), like.conjugate())
        case bool() | int() | float() | complex():
            return scalar.conjugate()
    return jnp.conj(scalar)


@diagonal.register
def _(operator: _Scaling):
    return scaled(operator, diagonal(operator.operator))


@tridiagonal.register
def _(operator: _Scaling):
    return scaled(operator, tridiagonal(operator.operator))


@layout.register
def _(operator: MulLinearOperator):
    return f"{_word(operator.scalar)} * {within(operator.operator, PRODUCT)}", PRODUCT


@layout.register
def _(operator: DivLinearOperator):
    return f"{within(operator.operator, PRODUCT)} / {_word(operator.scalar)}", PRODUCT


@layout.register
def _(operator: NegLinearOperator):
    return f"-{within(operator.operator, PRODUCT)}", PRODUCT


def _word(scalar: Any) -> str:
    return repr(scalar) if isinstance(scalar, NUMBERS) else "scalar"
