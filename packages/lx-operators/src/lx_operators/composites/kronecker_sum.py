"""The Kronecker sum A ⊕ B = A ⊗ I + I ⊗ B."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array

from .._checks import check_square
from .._composite import cached, map_parts
from .._functions import (
    add,
    diagonal,
    tridiagonal,
)
from .._operator import AbstractLinearOperator
from .._printing import SUM, layout, within
from .._promotion import at_least, conform, promoted_mv
from .._properties import declared, known
from .._simplify import SCALINGS, SUMS, Scaling, both_orders, multiple_of_identity
from .._structures import common_dtype, describe, same_shapes, structures_of
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
    upper_triangular_tag,
)
from .._tensor import along, check_factors
from ._rules import adjoint_by_parts, maps_to_parts


class KroneckerSumLinearOperator(AbstractLinearOperator):
    """The Kronecker sum A ⊕ B ⊕ … = A ⊗ I ⊗ … + I ⊗ B ⊗ … + …: each operator acts on
    its own axis, and the results are added, as in the Laplacian of a grid.

    Vectors are arrays with the axes of all operators: with A `[n₁, n₁]` and B
    `[n₂, n₂]` matrices, a vector X is `[n₁, n₂]`, and the product is A X + X Bᵀ. So
    solving with it is solving Sylvester's equation.

    Args:
        operators: one or more operators, each from arrays of some shape to arrays of
            the same shape.

    Raises:
        ValueError: if there is no operator, or one of them is not of this kind.

    ```python
    n = 4
    second = lx.TridiagonalLinearOperator(
        2 * jnp.ones(n), -jnp.ones(n - 1), -jnp.ones(n - 1)
    )
    laplacian = lx.KroneckerSumLinearOperator(second, second)
    laplacian.mv(jnp.ones((n, n)))
    ```
    """

    operators: tuple[AbstractLinearOperator, ...]

    def __init__(self, *operators: AbstractLinearOperator):
        check_factors(operators, "KroneckerSumLinearOperator")
        for i, operator in enumerate(operators):
            ins, outs = structures_of(operator)
            if not same_shapes(ins, outs):
                raise ValueError(
                    f"`operators[{i}]` of a `KroneckerSumLinearOperator` must map a "
                    f"space to itself, but maps {describe(ins)} to {describe(outs)}: "
                    f"{operator!r}."
                )
        self.operators = operators

    def mv(self, vector):
        x = conform(vector, self.in_structure(), "the vector")
        out, start = jnp.zeros_like(x), 0
        for operator in self.operators:
            stop = start + len(operator.in_structure().shape)
            y = along(functools.partial(promoted_mv, operator), x, start, stop)
            dtype = common_dtype([out, y])
            out, start = out.astype(dtype) + y.astype(dtype), stop
        return at_least(out, self.out_structure())

    def as_matrix(self):
        def plus(a: Array, b: Array) -> Array:
            left, right = (jnp.eye(len(x), dtype=x.dtype) for x in (a, b))
            return jnp.kron(a, right) + jnp.kron(left, b)

        dtype = common_dtype(*structures_of(self))
        matrices = (op.as_matrix().astype(dtype) for op in self.operators)
        return functools.reduce(plus, matrices)

    def transpose(self):
        return map_parts(lambda part: part.T, self)

    @cached
    def in_structure(self):
        parts = [structures_of(part) for part in self.operators]
        shapes = [ins.shape for ins, _ in parts]
        return jax.ShapeDtypeStruct(sum(shapes, ()), common_dtype(parts))

    def out_structure(self):
        return self.in_structure()


# Tags that a sum of commuting operators has if all of them have it.
_KEPT = frozenset((symmetric_tag, hermitian_tag, diagonal_tag))
_KEPT |= {lower_triangular_tag, upper_triangular_tag}
_KEPT |= {positive_semidefinite_tag, negative_semidefinite_tag}


@declared.register
@cached
def _(operator: KroneckerSumLinearOperator) -> Tags:
    tags = [known(part) for part in operator.operators]
    out = _KEPT & frozenset.intersection(*tags)
    # eigenvalues are sums of eigenvalues
    if out & {positive_semidefinite_tag, negative_semidefinite_tag} or len(tags) == 1:
        out |= {nonsingular_tag} & frozenset.union(*tags)
    sizes = [part.in_size() for part in operator.operators]
    large = [each for each, n in zip(tags, sizes) if n != 1]
    if all(diagonal_tag in each for each in large[:-1]):
        if all(tridiagonal_tag in each for each in large[-1:]):
            out |= {tridiagonal_tag}
    return out


maps_to_parts(KroneckerSumLinearOperator)
adjoint_by_parts(KroneckerSumLinearOperator)


@diagonal.register
def _(operator: KroneckerSumLinearOperator):
    dtype = common_dtype(*structures_of(operator))

    def plus(a: Array, b: Array) -> Array:
        return jnp.ravel(a[:, None] + b[None, :])

    parts = (diagonal(part).astype(dtype) for part in operator.operators)
    return functools.reduce(plus, parts)


@tridiagonal.register
def _(operator: KroneckerSumLinearOperator):
    check_square(operator)
    main = diagonal(operator)
    n = main.size
    below, above = (jnp.zeros(max(n - 1, 0), main.dtype) for _ in range(2))
    # next to the main diagonal stand elements of the last operator that is larger than
    # one by one, and, where that has a border, of none
    sizes = [part.in_size() for part in operator.operators]
    large = [i for i, size in enumerate(sizes) if size > 1]
    if n and large:
        last = operator.operators[large[-1]]
        _, lower, upper = (band.astype(main.dtype) for band in tridiagonal(last))
        count = n // last.in_size()
        below = jnp.tile(jnp.pad(lower, (0, 1)), count)[:-1]
        above = jnp.tile(jnp.pad(upper, (0, 1)), count)[:-1]
    return main, below, above


@layout.register
def _(operator: KroneckerSumLinearOperator):
    if len(operator.operators) == 1:
        return f"KroneckerSumLinearOperator({within(operator.operators[0], 0)})", SUM
    text = " ⊕ ".join(within(part, SUM + 1) for part in operator.operators)
    return text, SUM


def _shifted(a, b):
    shift = multiple_of_identity(b)
    if shift is None:
        return None
    first, *rest = a.operators
    return KroneckerSumLinearOperator(add(first, shift(structures_of(first)[0])), *rest)


SUMS.extend(
    both_orders(
        "A ⊕ B + sI = (A + sI) ⊕ B",
        KroneckerSumLinearOperator,
        AbstractLinearOperator,
        _shifted,
    )
)
SCALINGS.append(
    Scaling(
        "s(A ⊕ B) = sA ⊕ sB",
        KroneckerSumLinearOperator,
        lambda a, s: KroneckerSumLinearOperator(*map(s, a.operators)),
    )
)
