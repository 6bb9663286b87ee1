"""The Kronecker product A ⊗ B ⊗ …"""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact, Int

from .._checks import check_square
from .._composite import cached, map_parts
from .._functions import (
    compose,
    diagonal,
    tridiagonal,
)
from .._operator import AbstractLinearOperator
from .._printing import PRODUCT, layout, within
from .._promotion import at_least, conform, promoted_mv
from .._properties import declared, known
from .._simplify import PRODUCTS, SCALINGS, Rewrite, Scaling
from .._structures import common_dtype, same_shapes, size_of, structures_of
from .._tags import (
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
from .._tensor import along, check_factors
from ._rules import adjoint_by_parts, maps_to_parts


class KroneckerLinearOperator(AbstractLinearOperator):
    """The Kronecker product A ⊗ B ⊗ … of operators: each acts on its own axis.

    Vectors are arrays with the axes of all factors: with A `[m₁, n₁]` and B `[m₂, n₂]`
    matrices, a vector X is `[n₁, n₂]`, and the product A X Bᵀ is `[m₁, m₂]`. Raveled,
    it is the product with `jnp.kron(A, B)`, which is never formed: it costs one product
    with each factor for every element of the other axes. To act on flat vectors,
    compose with the `IdentityLinearOperator` from `[n₁ n₂]` to `[n₁, n₂]`.

    Args:
        operators: one or more operators, each between single arrays (of any shape).

    Raises:
        ValueError: if there is no operator, or one of them does not map one array to
            one array.

    ```python
    a = lx.MatrixLinearOperator(jnp.array([[2.0, 1.0], [1.0, 3.0]]))
    b = lx.DiagonalLinearOperator(jnp.array([1.0, 2.0, 3.0]))
    lx.KroneckerLinearOperator(a, b).mv(jnp.ones((2, 3)))
    ```
    """

    operators: tuple[AbstractLinearOperator, ...]

    def __init__(self, *operators: AbstractLinearOperator):
        check_factors(operators, "KroneckerLinearOperator")
        self.operators = operators

    def mv(self, vector):
        x = conform(vector, self.in_structure(), "the vector")
        start = 0
        for operator in self.operators:
            stop = start + len(operator.in_structure().shape)
            x = along(functools.partial(promoted_mv, operator), x, start, stop)
            start += len(operator.out_structure().shape)
        return at_least(x, self.out_structure())

    def as_matrix(self):
        return functools.reduce(_kron, (op.as_matrix() for op in self.operators))

    def transpose(self):
        return map_parts(lambda part: part.T, self)

    @cached
    def in_structure(self):
        return _structure(self, 0)

    @cached
    def out_structure(self):
        return _structure(self, 1)


def _structure(operator: KroneckerLinearOperator, side: int) -> jax.ShapeDtypeStruct:
    parts = [structures_of(part) for part in operator.operators]
    shapes = [part[side].shape for part in parts]
    return jax.ShapeDtypeStruct(sum(shapes, ()), common_dtype(parts))


def _kron(a: Array, b: Array) -> Array:
    dtype = common_dtype([a, b])
    return jnp.kron(a.astype(dtype), b.astype(dtype))


def _elements(
    operator: KroneckerLinearOperator, rows: Int[Array, " k"], columns: Int[Array, " k"]
) -> Inexact[Array, " k"]:
    """Elements of the matrix, from those of the factors' matrices."""
    dtype = common_dtype(*structures_of(operator))
    out = jnp.ones(rows.size, dtype)
    for part in reversed(operator.operators):
        rows, i = jnp.divmod(rows, part.out_size())
        columns, j = jnp.divmod(columns, part.in_size())
        out = out * part.as_matrix().astype(dtype)[i, j]
    return out


@declared.register
@cached
def _(operator: KroneckerLinearOperator) -> Tags:
    parts = operator.operators
    tags = [known(part) for part in parts]
    sizes = [tuple(map(size_of, structures_of(part))) for part in parts]
    kept = {symmetric_tag, hermitian_tag}
    if all(m == n for m, n in sizes):
        kept |= {diagonal_tag, lower_triangular_tag, upper_triangular_tag}
        kept |= {unit_diagonal_tag}
    # rank(A ⊗ B) = rank(A) rank(B), which is full only if all are tall, or all wide
    if all(m <= n for n, m in sizes) or all(m >= n for n, m in sizes):
        kept |= {nonsingular_tag}
    out = kept & frozenset.intersection(*tags)
    # eigenvalues are products of eigenvalues
    signs = [_sign(each) for each in tags]
    if all(signs):
        positive = math.prod(signs) > 0
        out |= {positive_semidefinite_tag if positive else negative_semidefinite_tag}
    # a diagonal of tridiagonal blocks
    large = [each for each, size in zip(tags, sizes) if size != (1, 1)]
    if all(diagonal_tag in each for each in large[:-1]):
        if all(tridiagonal_tag in each for each in large[-1:]):
            if all(m == n for m, n in sizes):
                out |= {tridiagonal_tag}
    return frozenset(out)


def _sign(tags: Tags) -> int:
    """1 for a positive semidefinite operator, -1 for a negative semidefinite one, else
    0."""
    if positive_semidefinite_tag in tags:
        return 1
    return -1 if negative_semidefinite_tag in tags else 0


maps_to_parts(KroneckerLinearOperator)
adjoint_by_parts(KroneckerLinearOperator)


@diagonal.register
def _(operator: KroneckerLinearOperator):
    if all(part.in_size() == part.out_size() for part in operator.operators):
        return functools.reduce(_kron, map(diagonal, operator.operators))
    i = jnp.arange(min(operator.out_size(), operator.in_size()))
    return _elements(operator, i, i)


@tridiagonal.register
def _(operator: KroneckerLinearOperator):
    check_square(operator)
    i = jnp.arange(operator.out_size())
    main = diagonal(operator)
    return main, _elements(operator, i[1:], i[:-1]), _elements(operator, i[:-1], i[1:])


@layout.register
def _(operator: KroneckerLinearOperator):
    if len(operator.operators) == 1:
        return f"KroneckerLinearOperator({within(operator.operators[0], 0)})", PRODUCT
    text = " ⊗ ".join(within(part, PRODUCT + 1) for part in operator.operators)
    return text, PRODUCT


def _product(a, b):
    pairs = list(zip(a.operators, b.operators))
    if len(a.operators) != len(b.operators):
        return None
    if not all(same_shapes(structures_of(x)[0], structures_of(y)[1]) for x, y in pairs):
        return None
    return KroneckerLinearOperator(*(compose(x, y) for x, y in pairs))


_OWN = KroneckerLinearOperator
PRODUCTS.append(Rewrite("(A ⊗ B)(C ⊗ D) = AC ⊗ BD", _OWN, _OWN, _product))
SCALINGS.append(
    Scaling(
        "s(A ⊗ B) = sA ⊗ B",
        _OWN,
        lambda a, s: KroneckerLinearOperator(s(a.operators[0]), *a.operators[1:]),
    )
)
