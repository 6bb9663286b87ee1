"""Promises, checked on demand: is an operator what its type and tags say it is?"""

import math
from collections.abc import Callable, Iterator

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from .._functions import reject
from .._operator import AbstractLinearOperator
from .._printing import summary
from .._structures import (
    Structure,
    describe,
    is_complex,
    is_real,
    size_of,
    structure_of,
    structures_of,
)
from ..sparse import _lazily as sparse
from .by_matrix import by_matrix
from .by_products import by_products
from .report import Check, Verification
from .vectors import epsilon, norm, random_pairs, relative, times, worst


def verify(
    operator: AbstractLinearOperator,
    key: Array,
    *,
    dense_up_to: int = 256,
    probes: int = 8,
    lanczos_steps: int = 32,
    rtol: float | None = None,
    throw: bool = False,
) -> Verification:
    """Checks that an operator is what its type and tags promise.

    It always checks structures, linearity, the transpose (yᵀ(A x) = (Aᵀy)ᵀx) and the
    adjoint (⟨y, A x⟩ = ⟨Aᴴy, x⟩), then every known tag, declared or implied. For small
    operators, tags are checked on the dense matrix, and that matrix is compared with
    `as_matrix()`; for large ones, random products look for a contradiction.
    Semidefiniteness is then judged from the extreme Ritz values of a Lanczos process
    with full reorthogonalisation, which lie within the spectrum (Parlett, The Symmetric
    Eigenvalue Problem, 1998, chapter 13, doi:10.1137/1.9781611971163); rank by those of
    AᴴA, which cannot distinguish a condition number beyond 1/√ε from rank deficiency.

    Use it in tests and for debugging: it runs eagerly and cannot be traced.

    Args:
        operator: an `AbstractLinearOperator`.
        key: a `jax.random.key` for the probes.
        dense_up_to: the largest size, of rows or columns, for which a dense matrix is
            formed.
        probes: how many random vectors to use for each check.
        lanczos_steps: how many Lanczos steps, at most, for large operators.
        rtol: relative error up to which a promise counts as kept; by default 64 ε
            √max(m, n), for the operator's least precise dtype.
        throw: whether a broken promise raises.

    Returns:
        A report: `report.ok`, `report.broken`, `report.checks`; `print(report)` shows
        it as a table.

    Raises:
        ValueError: if `operator` is not an operator; if `verify` was called inside
            `jit` or another transformation; or if `throw` is true and a promise is
            broken.

    ```python
    matrix = jnp.array([[2.0, 1.0], [0.0, 2.0]])
    operator = lx.MatrixLinearOperator(matrix, lx.symmetric_tag)
    report = lx.verify(operator, jax.random.key(0))
    report.ok  # False
    report.broken  # ("symmetric", "hermitian")
    ```
    """
    if not isinstance(operator, AbstractLinearOperator):
        reject(operator, "`verify`")
    leaves = jtu.tree_leaves((operator, key, jnp.zeros(()) + 1))
    if any(isinstance(leaf, Tracer) for leaf in leaves):
        raise ValueError(
            "`verify` looks at values and cannot be traced; call it outside `jit`, "
            "`vmap` and `grad`, on an operator of arrays."
        )
    in_structure, out_structure = structures_of(operator)
    m, n = size_of(out_structure), size_of(in_structure)
    if rtol is None:
        rtol = 64 * epsilon(in_structure, out_structure) * math.sqrt(max(m, n, 1))
    key_always, key_tags = jax.random.split(key)
    checks = list(_always(operator, key_always, probes, rtol))
    if checks[0].ok:  # the structures: else nothing more can be computed
        if max(m, n) <= dense_up_to:
            checks += by_matrix(operator, rtol)
        else:
            checks += by_products(operator, key_tags, probes, lanczos_steps, rtol)
    report = Verification(summary(operator), tuple(checks))
    if throw and not report.ok:
        raise ValueError(
            f"`operator` is not what it claims to be: {', '.join(report.broken)}. "
            f"Correct it, or leave the tags out.\n{report}"
        )
    return report


def _always(
    operator: AbstractLinearOperator, key: Array, probes: int, rtol: float
) -> Iterator[Check]:
    """Checks of what every operator promises."""
    ins, outs = structures_of(operator)
    how = f"{probes} random products"
    wrong = _wrong_structures(operator)
    yield Check(f"structures{wrong}", float(bool(wrong)), 0.0, "shapes and dtypes")
    if wrong:
        return
    keys = jax.random.split(key, 3)

    def linearity() -> Iterator[float]:
        scalars = (0.7 + 0.4j, -1.3j) if is_complex(ins) else (0.7, -1.3)
        for x, y in random_pairs((ins, ins), keys[0], probes):
            a, b = (np.asarray(s) for s in scalars)
            ax, by = a * times(operator, x), b * times(operator, y)
            error = times(operator, a * x + b * y) - ax - by
            yield relative(norm(error), norm(ax) + norm(by))

    yield Check("linearity", worst(linearity()), rtol, how)
    if getattr(operator, "sparsity", None) is not None:
        yield Check("sparsity", _lacking(operator), rtol, "1 random product")
    if is_real(ins) and not is_real(outs):
        return  # it has no transpose, which would drop imaginary parts
    transpose, adjoint = operator.T, operator.H

    def duality(reflected: AbstractLinearOperator, conj: Callable) -> Iterator[float]:
        for x, y in random_pairs((ins, outs), keys[1], probes):
            ax, ay = times(operator, x), times(reflected, y)
            error = abs(conj(y) @ ax - conj(ay) @ x)
            yield relative(error, norm(y) * norm(ax) + norm(ay) * norm(x))

    yield Check("transpose", worst(duality(transpose, lambda v: v)), rtol, how)
    yield Check("adjoint", worst(duality(adjoint, np.conj)), rtol, how)


def _lacking(operator: AbstractLinearOperator) -> float:
    """The error of a random product with the matrix that the operator's pattern
    gives."""
    return float(sparse.lack(operator, sparse.compress(operator)))


def _wrong_structures(operator: AbstractLinearOperator) -> str:
    """What is wrong with the structures of products; "" if nothing."""
    ins, outs = structures_of(operator)

    def of_product(operator: AbstractLinearOperator, structure: Structure) -> Structure:
        return structure_of(eqx.filter_eval_shape(lambda v: operator.mv(v), structure))

    wrong = []
    given = of_product(operator, ins)
    if given != outs:
        wrong.append(f"`mv` gives {describe(given)}, not {describe(outs)}")
    if is_real(ins) == is_real(outs):
        t_ins, t_outs = structures_of(operator.T)
        if t_ins != outs or t_outs != ins:
            wrong.append(
                f"`transpose()` maps {describe(t_ins)} to {describe(t_outs)}, not "
                f"{describe(outs)} to {describe(ins)}"
            )
    return "".join(f": {text}" for text in wrong)
