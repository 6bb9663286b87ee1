"""Where `+ - @ * /` give one structured operator instead of a composite.

Each row of the tables is an identity of matrices, so that nothing changes but rounding.
Constructors (`AddLinearOperator(a, b)`) give what they say; only the signs simplify. A
row is taken where its types fit and its function does not return None; what is known of
the composite is known of the result, and their structures are the same.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from .._functions import add, compose, divide, negate, scale
from .._operator import AbstractLinearOperator
from .._properties import known
from .._provenance import Reflection, reflections
from .._structures import common_dtype, same_shapes, spaces
from ..leaves.banded import BandedLinearOperator
from ..leaves.circulant import CirculantLinearOperator
from ..leaves.diagonal import DiagonalLinearOperator
from ..leaves.identity import IdentityLinearOperator
from ..leaves.matrix import MatrixLinearOperator
from ..leaves.permutation import PermutationLinearOperator
from ..leaves.toeplitz import ToeplitzLinearOperator
from ..leaves.zero import ZeroLinearOperator
from .add import AddLinearOperator
from .compose import ComposedLinearOperator
from .kronecker import KroneckerLinearOperator
from .kronecker_sum import KroneckerSumLinearOperator
from .low_rank_update import LowRankUpdateLinearOperator
from .scale import (
    DivLinearOperator,
    MulLinearOperator,
    NegLinearOperator,
    is_complex,
    scaled,
)
from .tagged import with_tags


class Rewrite(NamedTuple):
    """For operands of these types, the composite is `result(a, b)`."""

    identity: str
    left: type
    right: type
    result: Callable[[Any, Any], AbstractLinearOperator | None]


class Scaling(NamedTuple):
    """For an operand of this type, the scaling is `result(a, s)`; `s` scales: operators
    by `s(B)`, arrays by `s.array(x)`."""

    identity: str
    of: type
    result: Callable[[Any, "_Scale"], AbstractLinearOperator | None]


# Products


def _kronecker_product(a, b):
    pairs = list(zip(a.operators, b.operators))
    if len(a.operators) != len(b.operators):
        return None
    if not all(same_shapes(spaces(x)[0], spaces(y)[1]) for x, y in pairs):
        return None
    return KroneckerLinearOperator(*(compose(x, y) for x, y in pairs))


def _permutation_product(a, b):
    if Reflection.TRANSPOSE in reflections(a, b):
        return IdentityLinearOperator(a.in_structure())
    return PermutationLinearOperator(b.permutation[a.permutation], a.in_structure())


def _zero_product(a, b):
    return ZeroLinearOperator(spaces(b)[0], spaces(a)[1])


def _diagonal_banded(d, b):
    w, n = b.bands.shape
    row = jnp.clip(jnp.arange(n) + jnp.arange(w)[:, None] - b.upper, 0, max(n - 1, 0))
    bands = d.diagonal[row] * b.bands if n else b.bands
    return BandedLinearOperator(bands, b.lower, b.upper)


def _banded_diagonal(b, d):
    return BandedLinearOperator(b.bands * d.diagonal, b.lower, b.upper)


def _circulant_product(a, b):
    return CirculantLinearOperator(a.mv(b.column))


PRODUCTS: list[Rewrite] = [
    Rewrite("0 A = 0", ZeroLinearOperator, AbstractLinearOperator, _zero_product),
    Rewrite("A 0 = 0", AbstractLinearOperator, ZeroLinearOperator, _zero_product),
    Rewrite(
        "(A ⊗ B)(C ⊗ D) = AC ⊗ BD",
        KroneckerLinearOperator,
        KroneckerLinearOperator,
        _kronecker_product,
    ),
    Rewrite(
        "F⁻¹ΛF F⁻¹MF = F⁻¹ΛMF",
        CirculantLinearOperator,
        CirculantLinearOperator,
        _circulant_product,
    ),
    Rewrite(
        "PᵀP = I, and two permutations are one",
        PermutationLinearOperator,
        PermutationLinearOperator,
        _permutation_product,
    ),
    Rewrite(
        "(DB)ᵢⱼ = dᵢbᵢⱼ",
        DiagonalLinearOperator,
        BandedLinearOperator,
        _diagonal_banded,
    ),
    Rewrite(
        "(BD)ᵢⱼ = bᵢⱼdⱼ",
        BandedLinearOperator,
        DiagonalLinearOperator,
        _banded_diagonal,
    ),
]


# Sums


def _multiple(operator: Any) -> Callable[[Any], AbstractLinearOperator] | None:
    """Of s·I: from a structure, s·I of that space. None of anything else."""
    match operator:
        case IdentityLinearOperator():
            same = operator.input_structure == operator.output_structure
            return IdentityLinearOperator if same else None
        case MulLinearOperator() | DivLinearOperator() | NegLinearOperator():
            inner = _multiple(operator.operator)
            if inner is None:
                return None
            again = _Scale(operator)
            return lambda structure: again(inner(structure))
    return None


def _shifted_sum(a, b):
    shift = _multiple(b)
    if shift is None:
        return None
    first, *rest = a.operators
    first = add(first, shift(spaces(first)[0]))
    return KroneckerSumLinearOperator(first, *rest)


def _shifted_column(a, b):
    shift = _multiple(b)
    if shift is None:
        return None
    s = shift(_one(a)).mv(jnp.ones((1,), a.column.dtype))[0]
    if jnp.iscomplexobj(s) and not jnp.iscomplexobj(a.column):
        return None
    column = a.column.at[(0,) * a.column.ndim].add(s.astype(a.column.dtype))
    if isinstance(a, CirculantLinearOperator):
        return CirculantLinearOperator(column)
    return ToeplitzLinearOperator(column, a.row)


def _one(a):
    return jnp.zeros((1,), a.column.dtype)


def _circulant_sum(a, b):
    return CirculantLinearOperator(a.column + b.column)


def _toeplitz_sum(a, b):
    if a.row is None and b.row is None:
        return ToeplitzLinearOperator(a.column + b.column)
    rows = (x.column.conj() if x.row is None else x.row for x in (a, b))
    return ToeplitzLinearOperator(a.column + b.column, sum(rows))


def _update_sum(a, b):
    """[U W] diag(C, D) [V Z]ᴴ, of matrices."""
    U, V = [a.U, b.U], [a.V, b.V]
    same = V == [None, None]
    V = [u if v is None else v for u, v in zip(U, V)]
    if not all(isinstance(part, MatrixLinearOperator) for part in U + V):
        return None
    if len({part.matrix.dtype for part in U + V}) > 1:
        return None
    U, V = (jnp.concatenate([x.matrix for x in part], axis=1) for part in (U, V))
    C = None
    if a.C is not None or b.C is not None:
        top, bottom = (_core(x, U.dtype) for x in (a, b))
        top = jnp.pad(top, ((0, len(bottom)), (0, 0)))
        bottom = jnp.pad(bottom, ((len(top) - len(bottom), 0), (0, 0)))
        dtype = common_dtype([top, bottom])
        C = jnp.concatenate((top.astype(dtype), bottom.astype(dtype)), axis=1)
    inner = add(a.operator, b.operator)
    return LowRankUpdateLinearOperator(inner, U, C, None if same else V)


def _core(a, dtype):
    if a.C is None:
        return jnp.eye(a.U.in_size(), dtype=dtype)
    C = a.C.as_matrix()
    return C.astype(common_dtype([C, jnp.zeros((), dtype)]))


def _update_and(a, b):
    inner = add(a.operator, b)
    return LowRankUpdateLinearOperator(inner, a.U, a.C, a.V)


def _flipped(result: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda a, b: result(b, a)


def _both_orders(identity: str, left: type, right: type, result: Any) -> list[Rewrite]:
    return [
        Rewrite(identity, left, right, result),
        Rewrite(identity, right, left, _flipped(result)),
    ]


_ANY = AbstractLinearOperator
SUMS: list[Rewrite] = [
    *_both_orders("A + 0 = A", _ANY, ZeroLinearOperator, lambda a, zero: a),
    Rewrite(
        "A + UCVᴴ + B + WDZᴴ = (A + B) + [U W] diag(C, D) [V Z]ᴴ",
        LowRankUpdateLinearOperator,
        LowRankUpdateLinearOperator,
        _update_sum,
    ),
    *_both_orders(
        "A + UCVᴴ + B = (A + B) + UCVᴴ",
        LowRankUpdateLinearOperator,
        _ANY,
        _update_and,
    ),
    *_both_orders(
        "A ⊕ B + sI = (A + sI) ⊕ B", KroneckerSumLinearOperator, _ANY, _shifted_sum
    ),
    Rewrite(
        "F⁻¹ΛF + F⁻¹MF = F⁻¹(Λ + M)F",
        CirculantLinearOperator,
        CirculantLinearOperator,
        _circulant_sum,
    ),
    Rewrite(
        "sᵢ₋ⱼ + tᵢ₋ⱼ = (s + t)ᵢ₋ⱼ",
        ToeplitzLinearOperator,
        ToeplitzLinearOperator,
        _toeplitz_sum,
    ),
    *_both_orders(
        "F⁻¹ΛF + sI = F⁻¹(Λ + sI)F", CirculantLinearOperator, _ANY, _shifted_column
    ),
    *_both_orders(
        "T + sI has s more on its diagonal",
        ToeplitzLinearOperator,
        _ANY,
        _shifted_column,
    ),
]


# Scalings


class _Scale:
    """s·, ·/s or -, as in a composite."""

    def __init__(self, plain: Any):
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


def _scaled_toeplitz(a, s):
    column = s.array(a.column)
    if a.row is not None:
        return ToeplitzLinearOperator(column, s.array(a.row))
    scalar = getattr(s.plain, "scalar", 1)
    row = s.array(a.column.conj()) if is_complex(scalar) else None
    return ToeplitzLinearOperator(column, row)


def _scaled_update(a, s):
    core = IdentityLinearOperator(spaces(a.U)[0]) if a.C is None else a.C
    return LowRankUpdateLinearOperator(s(a.operator), a.U, s(core), a.V)


SCALINGS: list[Scaling] = [
    Scaling(
        "s(A ⊗ B) = sA ⊗ B",
        KroneckerLinearOperator,
        lambda a, s: KroneckerLinearOperator(s(a.operators[0]), *a.operators[1:]),
    ),
    Scaling(
        "s(A ⊕ B) = sA ⊕ sB",
        KroneckerSumLinearOperator,
        lambda a, s: KroneckerSumLinearOperator(*map(s, a.operators)),
    ),
    Scaling("s(A + UCVᴴ) = sA + U(sC)Vᴴ", LowRankUpdateLinearOperator, _scaled_update),
    Scaling(
        "s F⁻¹ΛF = F⁻¹(sΛ)F",
        CirculantLinearOperator,
        lambda a, s: CirculantLinearOperator(s.array(a.column)),
    ),
    Scaling("(sT)ᵢⱼ = s tᵢ₋ⱼ", ToeplitzLinearOperator, _scaled_toeplitz),
]


def _simplified(plain: Any, result: Any) -> AbstractLinearOperator | None:
    """A row's result, knowing all that is known of the composite."""
    if result is None or spaces(result) != spaces(plain):
        return None
    return with_tags(result, known(plain))


def _by_rows(plain: Any, rules: list[Rewrite], a: Any, b: Any) -> Any:
    for rule in rules:
        if isinstance(a, rule.left) and isinstance(b, rule.right):
            result = _simplified(plain, rule.result(a, b))
            if result is not None:
                return result
    return plain


def simplified_sum(a: Any, b: Any) -> AbstractLinearOperator:
    return _by_rows(AddLinearOperator(a, b), SUMS, a, b)


def simplified_product(a: Any, b: Any) -> AbstractLinearOperator:
    return _by_rows(ComposedLinearOperator(a, b), PRODUCTS, a, b)


def simplified_scaling(plain: Any) -> AbstractLinearOperator:
    """Of a multiple, a quotient or a negative."""
    for rule in SCALINGS:
        if isinstance(plain.operator, rule.of):
            result = _simplified(plain, rule.result(plain.operator, _Scale(plain)))
            if result is not None:
                return result
    return plain
