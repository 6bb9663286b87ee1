"""The circulant preconditioner of T. Chan for Toeplitz operators."""

import jax.numpy as jnp
from lx_operators import (
    AbstractLinearOperator,
    CirculantLinearOperator,
    ToeplitzLinearOperator,
    is_negative_semidefinite,
    is_positive_semidefinite,
    negative_semidefinite_tag,
    positive_semidefinite_tag,
)
from lx_operators.internal import bare

from .._checks import check_square
from . import _by_operator
from ._preconditioner import AbstractPreconditioner, definite_tags


def circulant_preconditioner(
    operator: AbstractLinearOperator,
) -> CirculantLinearOperator:
    """The inverse of the circulant matrix C nearest to a Toeplitz matrix T in the
    Frobenius norm: cₖ = ((n - k) tₖ + k tₖ₋ₙ) / n (T. Chan 1988, doi:10.1137/0909051).

    If T is definite, so is C, with its eigenvalues between T's (Tyrtyshnikov 1992,
    doi:10.1137/0613030); for many kernels the preconditioned eigenvalues cluster at
    one, and `CG` or `GMRES` takes a number of steps that does not grow with n.

    Args:
        operator: a square `ToeplitzLinearOperator`.

    Returns:
        A `CirculantLinearOperator`, tagged semidefinite as T is. Zero eigenvalues of C
        stay zero.

    Raises:
        ValueError: another operator.

    ```python
    operator = lx.ToeplitzLinearOperator(0.5 ** jnp.arange(8.0), 0.1 ** jnp.arange(8.0))
    options = {"preconditioner": lx.circulant_preconditioner(operator)}
    solver = lx.GMRES(rtol=1e-5, atol=1e-5)
    solution = lx.linear_solve(operator, jnp.ones(8), solver, options=options)
    ```
    """
    toeplitz = bare(operator)
    if not isinstance(toeplitz, ToeplitzLinearOperator):
        raise ValueError(
            "`circulant_preconditioner` takes a `ToeplitzLinearOperator`, but got "
            f"{operator!r}."
        )
    check_square(operator, "circulant_preconditioner")
    column, row = toeplitz.column, toeplitz.row
    row = column.conj() if row is None else row
    n = column.size
    k = jnp.arange(n).astype(column.dtype)
    c = ((n - k) * column + k * jnp.roll(row[::-1], 1)) / n
    eigenvalues = jnp.fft.fft(c)
    zero = eigenvalues == 0
    inverse = 1 / jnp.where(zero, jnp.ones_like(eigenvalues), eigenvalues)
    kernel = jnp.fft.ifft(jnp.where(zero, jnp.zeros_like(inverse), inverse))
    kernel = kernel if jnp.iscomplexobj(column) else kernel.real
    tags = []
    if is_positive_semidefinite(operator):
        tags.append(positive_semidefinite_tag)
    if is_negative_semidefinite(operator):
        tags.append(negative_semidefinite_tag)
    return CirculantLinearOperator(kernel.astype(column.dtype), tags)


class OptimalCirculant(AbstractPreconditioner[AbstractLinearOperator]):
    """The inverse of the circulant matrix nearest to a Toeplitz matrix, by
    `lx.circulant_preconditioner` (T. Chan 1988, doi:10.1137/0909051). It costs two fast
    Fourier transforms to apply.

    Raises:
        ValueError: the operator is not a square `ToeplitzLinearOperator`.

    ```python
    operator = lx.ToeplitzLinearOperator(0.5 ** jnp.arange(8.0), 0.1 ** jnp.arange(8.0))
    solver = lx.GMRES(preconditioner=lx.OptimalCirculant())
    solution = lx.linear_solve(operator, jnp.ones(8), solver)
    ```
    """

    def init(self, operator, options):
        return circulant_preconditioner(operator)

    apply = _by_operator.apply
    transpose = _by_operator.transposed
    conj = _by_operator.conjugated

    def tags(self, operator):
        return definite_tags(operator)
