"""A low-rank update A + U C Vᴴ."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, ArrayLike

from .._checks import check_operator, check_same, check_square
from .._composite import cached
from .._functions import (
    add,
    conj,
    diagonal,
    tridiagonal,
)
from .._operator import AbstractLinearOperator
from .._printing import SUM, layout, within
from .._promotion import promoted_mv, promoted_structure, widened
from .._properties import declared, known
from .._provenance import Reflection, reflected_product
from .._simplify import SCALINGS, SUMS, Rewrite, Scaling, both_orders
from .._structures import common_dtype, matmul, structures_of
from .._tags import (
    Tags,
    hermitian_tag,
    negative_semidefinite_tag,
    nonsingular_tag,
    positive_semidefinite_tag,
)
from ..leaves.identity import IdentityLinearOperator
from ..leaves.matrix import MatrixLinearOperator
from ._rules import adjoint_by_parts, maps_to_parts


class LowRankUpdateLinearOperator(AbstractLinearOperator):
    """A + U C Vᴴ, with few columns in U and V; it is never multiplied out.

    Args:
        operator: A.
        U: from a small space to A's output space: an operator, or a matrix `[m, k]`.
        C: of the small space: an operator, or a matrix `[k, k]`. By default the
            identity.
        V: from the small space to A's input space: an operator, or a matrix `[n, k]`.
            By default V is U; the sum is then Hermitian, or semidefinite, if A and C
            are.

    Raises:
        ValueError: if structures do not fit; the error names the argument.

    ```python
    a = lx.DiagonalLinearOperator(jnp.array([1.0, 2.0, 3.0]))
    operator = lx.LowRankUpdateLinearOperator(a, jnp.ones((3, 1)))
    operator.as_matrix()  # diag(1, 2, 3) + 1
    ```
    """

    operator: AbstractLinearOperator
    U: AbstractLinearOperator
    C: AbstractLinearOperator | None
    V: AbstractLinearOperator | None

    def __init__(
        self,
        operator: AbstractLinearOperator,
        U: AbstractLinearOperator | ArrayLike,
        C: AbstractLinearOperator | ArrayLike | None = None,
        V: AbstractLinearOperator | ArrayLike | None = None,
    ):
        check_operator(operator, "operator")
        self.operator = operator
        self.U, self.C, self.V = _operator(U, "U"), _maybe(C, "C"), _maybe(V, "V")
        ins, outs = structures_of(operator)
        right = self.U if self.V is None else self.V
        of = "in A + U C Vᴴ, the output structures of"
        check_same(structures_of(self.U)[1], outs, f"{of} U and A")
        check_same(structures_of(right)[1], ins, f"{of} V (by default U) and Aᴴ")
        small, wide = structures_of(right)[0], structures_of(self.U)[0]
        if self.C is not None:
            of = "in A + U C Vᴴ, the input structures of"
            check_same(structures_of(self.C)[0], small, f"{of} C and V (by default U)")
            small = structures_of(self.C)[1]
        check_same(wide, small, "in A + U C Vᴴ, the spaces between U and C Vᴴ")

    def mv(self, vector):
        y = promoted_mv(self.operator, vector)
        x = reflected_product(right_of(self), Reflection.ADJOINT, vector)
        x = x if self.C is None else promoted_mv(self.C, x)
        return jtu.tree_map(_plus, y, promoted_mv(self.U, x))

    def as_matrix(self):
        left, right = sides(self)
        return _plus(self.operator.as_matrix(), _matmul(left, right.conj().T))

    def transpose(self):
        C = None if self.C is None else self.C.T
        left = conj(right_of(self))
        right = None if self.V is None else conj(self.U)
        return LowRankUpdateLinearOperator(self.operator.T, left, C, right)

    def in_structure(self):
        return _structures_of(self)[0]

    def out_structure(self):
        return _structures_of(self)[1]


def _operator(given: Any, argument: str) -> AbstractLinearOperator:
    if isinstance(given, AbstractLinearOperator):
        return given
    if jnp.ndim(given) != 2:
        raise ValueError(
            f"`{argument}` must be an operator or a two-dimensional array, but got "
            f"shape {jnp.shape(given)}."
        )
    return MatrixLinearOperator(given)


def _maybe(given: Any, argument: str) -> AbstractLinearOperator | None:
    return None if given is None else _operator(given, argument)


@cached
def _structures_of(operator: LowRankUpdateLinearOperator) -> Any:
    (ins, outs), (small, left) = (
        structures_of(operator.operator),
        structures_of(operator.U),
    )
    if operator.C is not None:
        (wide, small_out) = structures_of(operator.C)
        left = widened(left, small_out, small)
        small = promoted_structure(wide, small)
    right_in, right = structures_of(right_of(operator))
    ins = promoted_structure(ins, widened(right, small, right_in))
    return ins, promoted_structure(outs, widened(left, right_in, small))


def right_of(operator: LowRankUpdateLinearOperator) -> AbstractLinearOperator:
    """V."""
    return operator.U if operator.V is None else operator.V


def _adjoint(
    of: Callable[[Any], Any], operator: LowRankUpdateLinearOperator
) -> LowRankUpdateLinearOperator:
    """Aᴴ + V Cᴴ Uᴴ, where `of` gives the adjoint of A and of C."""
    C = None if operator.C is None else of(operator.C)
    A, V = of(operator.operator), right_of(operator)
    return LowRankUpdateLinearOperator(A, V, C, operator.U)


def sides(operator: LowRankUpdateLinearOperator) -> tuple[Array, Array]:
    """The matrices of U C and V."""
    left = operator.U.as_matrix()
    if operator.C is not None:
        left = _matmul(left, operator.C.as_matrix())
    return left, right_of(operator).as_matrix()


def _matmul(x: Array, y: Array) -> Array:
    dtype = common_dtype([x, y])
    return matmul(x.astype(dtype), y.astype(dtype))


def _plus(x: Array, y: Array) -> Array:
    dtype = common_dtype([x, y])
    return x.astype(dtype) + y.astype(dtype)


@declared.register
@cached
def _(operator: LowRankUpdateLinearOperator) -> Tags:
    if operator.V is not None:
        return frozenset()
    base = known(operator.operator)
    core = {hermitian_tag, positive_semidefinite_tag}
    if operator.C is not None:
        core = known(operator.C)
    signs = {positive_semidefinite_tag, negative_semidefinite_tag}
    out = base & core & (signs | {hermitian_tag})
    # definite + semidefinite of the same sign is definite
    if out & signs:
        out |= base & {nonsingular_tag}
    return frozenset(out)


def _map(fn: Any, operator: LowRankUpdateLinearOperator) -> LowRankUpdateLinearOperator:
    parts = operator.operator, operator.U, operator.C, operator.V
    mapped: Any = (None if part is None else fn(part) for part in parts)
    return LowRankUpdateLinearOperator(*mapped)


maps_to_parts(LowRankUpdateLinearOperator, _map)
adjoint_by_parts(LowRankUpdateLinearOperator, _adjoint)


def _row_sums(x: Array, y: Array) -> Array:
    n = min(len(x), len(y))
    dtype = common_dtype([x, y])
    return jnp.sum(x[:n].astype(dtype) * y[:n].conj().astype(dtype), axis=1)


@diagonal.register
def _(operator: LowRankUpdateLinearOperator):
    return _plus(diagonal(operator.operator), _row_sums(*sides(operator)))


@tridiagonal.register
def _(operator: LowRankUpdateLinearOperator):
    check_square(operator)
    left, right = sides(operator)
    pairs = ((left, right), (left[1:], right[:-1]), (left[:-1], right[1:]))
    bands = zip(tridiagonal(operator.operator), pairs)
    main, lower, upper = (_plus(band, _row_sums(*pair)) for band, pair in bands)
    return main, lower, upper


@layout.register
def _(operator: LowRankUpdateLinearOperator):
    C = "" if operator.C is None else f" @ {within(operator.C, SUM + 1)}"
    U, V = within(operator.U, SUM + 1), within(right_of(operator), SUM + 2)
    return f"{within(operator.operator, SUM)} + {U}{C} @ {V}.H", SUM


def _sum(a, b):
    """[U W] diag(C, D) [V Z]ᴴ, with matrices."""
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


def _sum_with(a, b):
    return LowRankUpdateLinearOperator(add(a.operator, b), a.U, a.C, a.V)


def _scaled(a, s):
    core = IdentityLinearOperator(structures_of(a.U)[0]) if a.C is None else a.C
    return LowRankUpdateLinearOperator(s(a.operator), a.U, s(core), a.V)


_OWN = LowRankUpdateLinearOperator
SUMS.append(
    Rewrite("A + UCVᴴ + B + WDZᴴ = (A + B) + [U W] diag(C, D) [V Z]ᴴ", _OWN, _OWN, _sum)
)
SUMS.extend(
    both_orders(
        "A + UCVᴴ + B = (A + B) + UCVᴴ", _OWN, AbstractLinearOperator, _sum_with
    )
)
SCALINGS.append(Scaling("s(A + UCVᴴ) = sA + U(sC)Vᴴ", _OWN, _scaled))
