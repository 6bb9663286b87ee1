"""The generic functions, each open to new operator types through `.register(Type)`.

Only their names and meanings stand here. Each operator's file registers how it answers;
`_fallbacks.py` answers for types that register nothing.
"""

import functools
from collections.abc import Callable
from typing import Any, NoReturn

from jaxtyping import Array, Inexact, PyTree

from ._structures import sparse_hint


def reject(what: Any, where: str) -> NoReturn:
    """The error for something that should have been an operator."""
    hint = (
        sparse_hint(what)
        if hasattr(what, "todense")
        else "wrap the array as `MatrixLinearOperator(array)`"
        if hasattr(what, "shape") and hasattr(what, "dtype")
        else "pass an `AbstractLinearOperator`"
    )
    raise ValueError(
        f"{where} takes a linear operator, but got a value of type "
        f"`{type(what).__name__}`; {hint}."
    )


@functools.singledispatch
def linearise(operator: Any) -> Any:
    """The same map, with all work that does not depend on the vector done in advance.

    A `JacobianLinearOperator` runs its primal pass once, and keeps what its products
    need; other operators return themselves, and composites linearise their parts.

    Args:
        operator: an `AbstractLinearOperator`.

    Returns:
        An operator with the same structures, tags and values.

    ```python
    jacobian = lx.JacobianLinearOperator(lambda x, args: jnp.sin(x), jnp.ones(3))
    jacobian = lx.linearise(jacobian)
    ```
    """
    reject(operator, "`linearise`")


@functools.singledispatch
def materialise(operator: Any) -> Any:
    """The same map, stored as arrays.

    Functions and Jacobians become a `PyTreeLinearOperator` (n products, or m transposed
    products if that is fewer). If they are tagged diagonal or tridiagonal, they become
    a diagonal or tridiagonal operator by 1 or 3 products (colouring: Curtis, Powell and
    Reid 1974, doi:10.1093/imamat/13.1.117). Composites materialise their parts and are
    not multiplied out.

    Args:
        operator: an `AbstractLinearOperator`.

    Returns:
        An operator with the same structures and values.

    ```python
    cumsum = lx.FunctionLinearOperator(jnp.cumsum, jnp.zeros(3))
    lx.materialise(cumsum)  # PyTreeLinearOperator(f64[3, 3])
    ```
    """
    reject(operator, "`materialise`")


@functools.singledispatch
def diagonal(operator: Any) -> Inexact[Array, " n"]:
    """The diagonal of the operator's matrix, computed in the cheapest way that its type
    and tags allow.

    Args:
        operator: an `AbstractLinearOperator` of matrix shape `[m, n]`.

    Returns:
        A one-dimensional array of size `min(m, n)`.

    ```python
    operator = lx.MatrixLinearOperator(jnp.arange(6.0).reshape(2, 3))
    lx.diagonal(operator)  # [0., 4.]
    ```
    """
    reject(operator, "`diagonal`")


@functools.singledispatch
def tridiagonal(
    operator: Any,
) -> tuple[Inexact[Array, " n"], Inexact[Array, " n-1"], Inexact[Array, " n-1"]]:
    """The three middle diagonals of a square operator's matrix, computed in the
    cheapest way that its type and tags allow.

    Args:
        operator: an `AbstractLinearOperator` of matrix shape `[n, n]`.

    Returns:
        `(diagonal, lower, upper)` of sizes n, n - 1 and n - 1.

    Raises:
        ValueError: the operator is not square.

    ```python
    operator = lx.MatrixLinearOperator(jnp.arange(9.0).reshape(3, 3))
    lx.tridiagonal(operator)  # ([0., 4., 8.], [3., 7.], [1., 5.])
    ```
    """
    reject(operator, "`tridiagonal`")


@functools.singledispatch
def conj(operator: Any) -> Any:
    """The elementwise conjugate: the operator whose matrix is the conjugate of
    `operator.as_matrix()`. A real operator is its own conjugate.

    Args:
        operator: an `AbstractLinearOperator`.

    Returns:
        An operator of the same structures.

    ```python
    operator = lx.DiagonalLinearOperator(jnp.array([1j, 2.0]))
    lx.conj(operator).as_matrix()  # [[-1j, 0], [0, 2]]
    ```
    """
    reject(operator, "`conj`")


# Diagonals as a band matrix, for operators that are known to be narrow.


@functools.singledispatch
def bandwidths(operator: Any) -> tuple[int, int] | None:
    """How many diagonals below and above the main one a square operator's matrix has,
    from type and tags; None if it is not known to be narrow.

    Args:
        operator: an `AbstractLinearOperator` of matrix shape `[n, n]`.

    Returns:
        `(lower, upper)`, upper bounds; or None.
    """
    reject(operator, "`bandwidths`")


@functools.singledispatch
def bands(operator: Any) -> Inexact[Array, "w n"]:
    """The diagonals of an operator whose `bandwidths` are known, in LAPACK's
    storage: `bands[upper + i - j, j]` is the element in row i and column j.

    Args:
        operator: an `AbstractLinearOperator` of matrix shape `[n, n]`.

    Returns:
        An array `[lower + upper + 1, n]`, zero where there is no row i.
    """
    reject(operator, "`bands`")


@functools.singledispatch
def sparse_form(operator: Any) -> Any:
    """A composite of sparse operators as one `SparseLinearOperator`; None if the
    operator is not known to be one."""
    return None


# Products.


@functools.singledispatch
def adjoint_product(operator: Any) -> Callable[[PyTree[Array]], PyTree[Array]]:
    """`operator.H.mv`, without copying the operator's arrays.

    Args:
        operator: an `AbstractLinearOperator`.

    Returns:
        A function from the operator's output structure to its input structure.
    """
    reject(operator, "`adjoint_product`")


@functools.singledispatch
def with_tags(operator: Any, tags: Any) -> Any:
    """`operator`, wrapped only if it does not know all these tags by itself."""
    reject(operator, "`with_tags`")


# The arithmetic of operators. `+ - @ * /` call these, so that a type may register a
# structured result of its own.


@functools.singledispatch
def add(operator1: Any, operator2: Any) -> Any:
    reject(operator1, "`+`")


@functools.singledispatch
def compose(operator1: Any, operator2: Any) -> Any:
    reject(operator1, "`@`")


@functools.singledispatch
def scale(operator: Any, scalar: Any) -> Any:
    reject(operator, "`*`")


@functools.singledispatch
def divide(operator: Any, scalar: Any) -> Any:
    reject(operator, "`/`")


@functools.singledispatch
def negate(operator: Any) -> Any:
    reject(operator, "unary `-`")
