"""The scalings s·A, A/s and -A."""

import cmath
import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
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
    bands,
    bandwidths,
    conj,
    diagonal,
    divide,
    linearise,
    materialise,
    negate,
    scale,
    sparse_form,
    tridiagonal,
)
from .._operator import NUMBERS, AbstractLinearOperator, scalar
from .._printing import PRODUCT, layout, within
from .._promotion import promoted_mv, strict_promotion
from .._simplify import SCALINGS, multiple_of_identity, simplified, unwrapped, view
from .._structures import (
    Structure,
    common_dtype,
    describe,
    promote_types,
    structures_of,
)
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
from ._rules import Rule, all_have, any_of, declare


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
        return scaled(self, promoted_mv(self.operator, vector))

    def as_matrix(self):
        return scaled(self, self.operator.as_matrix())

    def transpose(self):
        return map_parts(lambda part: part.T, self)

    @cached
    def in_structure(self):
        return _structure(self.operator.in_structure(), self.scalar)

    @cached
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
        return scaled(self, promoted_mv(self.operator, vector))

    def as_matrix(self):
        return scaled(self, self.operator.as_matrix())

    def transpose(self):
        return map_parts(lambda part: part.T, self)

    @cached
    def in_structure(self):
        return _structure(self.operator.in_structure(), self.scalar)

    @cached
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
        return scaled(self, promoted_mv(self.operator, vector))

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
    for leaf in jtu.tree_leaves(structures_of(operator)):
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
    return sparse_form(operator) or map_parts(materialise, operator)


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


# What is known: the value of a scalar is known only if it is a Python number.


def kept_if(condition: Callable[[complex], bool], tag: Tag) -> Rule:
    """Kept where the scalar is known and meets the condition."""

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
    """Zero times a semidefinite operator is both."""
    return any_of(_flipped(tag, opposite), kept_if(zero, tag), kept_if(zero, opposite))


_DIVISION: dict[Tag, Rule] = {tag: all_have(tag) for tag in _KEPT} | {
    hermitian_tag: kept_if_real(hermitian_tag),
    unit_diagonal_tag: kept_if(one, unit_diagonal_tag),
    _psd: _flipped(_psd, _nsd),
    _nsd: _flipped(_nsd, _psd),
    nonsingular_tag: kept_if(invertible, nonsingular_tag),
}
_MULTIPLICATION = _DIVISION | {_psd: _annulled(_psd, _nsd), _nsd: _annulled(_nsd, _psd)}
_NEGATION: dict[Tag, Rule] = {tag: all_have(tag) for tag in _KEPT} | {
    hermitian_tag: all_have(hermitian_tag),
    _psd: all_have(_nsd),
    _nsd: all_have(_psd),
    nonsingular_tag: all_have(nonsingular_tag),
}
declare(MulLinearOperator, _MULTIPLICATION)
declare(DivLinearOperator, _DIVISION)
declare(NegLinearOperator, _NEGATION)


# The signs


class Scale:
    """s·, ·/s or -, as in a composite."""

    def __init__(self, plain: _Scaling):
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
        return is_complex(getattr(self.plain, "scalar", 1))


@scale.register
def _(operator: AbstractLinearOperator, scalar: Any):
    return _simplified(MulLinearOperator(operator, scalar))


@divide.register
def _(operator: AbstractLinearOperator, scalar: Any):
    return _simplified(DivLinearOperator(operator, scalar))


@negate.register
def _(operator: AbstractLinearOperator):
    return _simplified(NegLinearOperator(operator))


def _simplified(plain: _Scaling) -> AbstractLinearOperator:
    return simplified(plain, SCALINGS, plain.operator, Scale(plain))


@unwrapped.register
def _(operator: _Scaling):
    inner = functools.partial(unwrapped, operator.operator)
    return view(operator, SCALINGS, inner, lambda: Scale(operator))


@multiple_of_identity.register
def _(operator: _Scaling):
    inner = multiple_of_identity(unwrapped(operator.operator))
    if inner is None:
        return None
    again = Scale(operator)
    return lambda structure: again(inner(structure))


@bandwidths.register
def _(operator: _Scaling):
    return bandwidths(operator.operator)


@bands.register
def _(operator: _Scaling):
    return scaled(operator, bands(operator.operator))


@block_tridiagonal.register
def _(operator: _Scaling):
    return block_tridiagonal_of(operator, lambda blocks: scaled(operator, blocks))


@block_grid.register
def _(operator: _Scaling):
    inner = block_grid(operator.operator)
    return None if inner is None else blocks_mapped(inner, Scale(operator))


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
