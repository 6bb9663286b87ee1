"""Scalars in scalings: arrays, and Python numbers, whose values the tags can use."""

import cmath
import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array

from .._operator import NUMBERS, AbstractLinearOperator, scalar
from .._promotion import strict_promotion
from .._structures import (
    Structure,
    common_dtype,
    describe,
    promote_types,
    structures_of,
)


@jtu.register_dataclass
@dataclasses.dataclass(frozen=True)
class Signed:
    """A Python number as a scalar whose value is an array, so that one program serves
    all values; `like` is a number for which the tags are the same."""

    value: Array
    like: complex = dataclasses.field(metadata={"static": True})


def as_signed(scalar: Any) -> Any:
    if not isinstance(scalar, NUMBERS) or not cmath.isfinite(scalar):
        return scalar
    value = scalar if isinstance(scalar, complex) else float(scalar)
    like = value
    if value not in (0, 1):
        like = 2j if isinstance(value, complex) else math.copysign(2.0, value)
    return Signed(jnp.asarray(value), like)


def number(scalar: Any) -> complex | None:
    """A Python number that stands for the scalar when tags are decided; None if the
    sign is unknown."""
    if isinstance(scalar, Signed):
        return scalar.like
    return scalar if isinstance(scalar, NUMBERS) else None


def is_complex(scalar: Any) -> bool:
    return jnp.iscomplexobj(scalar.value if isinstance(scalar, Signed) else scalar)


def checked_scalar(value: Any, sign: str, operator: AbstractLinearOperator) -> Any:
    """A scalar as it is; an integer array is cast to the operator's dtype."""
    if isinstance(value, Signed):
        return value
    value = scalar(value, sign)
    if isinstance(value, jax.Array) and not jnp.issubdtype(value.dtype, jnp.inexact):
        value = value.astype(common_dtype(operator.out_structure()))
    if strict_promotion():
        _check_dtypes(value, sign, operator)
    return value


def _check_dtypes(value: Any, sign: str, operator: AbstractLinearOperator) -> None:
    """Under strict promotion, a Python number is allowed unless it is complex and the
    operator real."""
    kind = _python_kind(value)
    for leaf in jtu.tree_leaves(structures_of(operator)):
        same = leaf.dtype == (scaled_dtype(leaf.dtype, value) if kind else value.dtype)
        if not same:
            raise ValueError(
                f"operator `{sign}` got a scalar of dtype "
                f"{'complex' if kind else value.dtype} for an operator of dtype "
                f"{describe(leaf)}, and `jax_numpy_dtype_promotion` is 'strict'; cast "
                "one of them, or allow promotion by "
                "`jax.numpy_dtype_promotion('standard')`."
            )


def _python_kind(scalar: Any) -> type | None:
    """`float` or `complex` for a Python number or a weakly typed array (a Python number
    becomes one when it crosses `jit`); None for other arrays."""
    if isinstance(scalar, jax.Array) and not scalar.weak_type:
        return None
    return complex if is_complex(scalar) else float


def scaled_dtype(dtype: Any, scalar: Any) -> Any:
    """The dtype of `scalar` times something of `dtype`."""
    match _python_kind(scalar):
        case None:
            return promote_types(dtype, scalar.dtype)
        case kind if kind is complex:
            return promote_types(dtype, jnp.complex64)
    return dtype


def scaled_structure(structure: Structure, scalar: Any) -> Structure:
    return jtu.tree_map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, scaled_dtype(leaf.dtype, scalar)),
        structure,
    )


def conj_scalar(scalar: Any) -> Any:
    match scalar:
        case Signed(value=value, like=like):
            return Signed(jnp.conj(value), like.conjugate())
        case bool() | int() | float() | complex():
            return scalar.conjugate()
    return jnp.conj(scalar)


def scalar_text(scalar: Any) -> str:
    return repr(scalar) if isinstance(scalar, NUMBERS) else "scalar"
