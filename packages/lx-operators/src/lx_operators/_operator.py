"""The abstract linear operator: five methods to define, and everything that follows."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact, PyTree

from . import _functions as generic
from ._printing import summary
from ._provenance import Reflection, remember
from ._structures import Structure, size_of


class AbstractLinearOperator(eqx.Module):
    """A linear map X → Y, whose elements are pytrees of floating or complex arrays.

    To write an operator, subclass this and define `mv`, `as_matrix`, `transpose`,
    `in_structure` and `out_structure`. That is enough for everything in this package to
    work. If a type can answer a generic function or question more cheaply, or knows
    more, register that answer with the function.

    ```python
    class Circulant(lx.AbstractLinearOperator):
        column: jax.Array

        def mv(self, vector):
            product = jnp.fft.fft(self.column) * jnp.fft.fft(vector)
            return jnp.fft.ifft(product).real

        def as_matrix(self):
            return jax.vmap(self.mv, out_axes=1)(jnp.eye(self.column.size))

        def transpose(self):
            return Circulant(jnp.roll(self.column[::-1], 1))

        def in_structure(self):
            return jax.ShapeDtypeStruct(self.column.shape, self.column.dtype)

        def out_structure(self):
            return self.in_structure()
    ```
    """

    # NumPy's arrays and scalars leave `numpy_scalar * operator` to `__rmul__`.
    __array_ufunc__ = None

    @abc.abstractmethod
    def mv(
        self, vector: PyTree[Inexact[Array, " _b"]]
    ) -> PyTree[Inexact[Array, " _a"]]:
        """The product A x.

        Args:
            vector: of structure `in_structure()`; other dtypes promote by JAX's rules.

        Returns:
            A pytree of arrays, of structure `out_structure()`.
        """

    @abc.abstractmethod
    def as_matrix(self) -> Inexact[Array, "a b"]:
        """The matrix, of shape `[out_size, in_size]`; its rows and columns follow the
        order of the leaves, each leaf raveled."""

    @abc.abstractmethod
    def transpose(self) -> "AbstractLinearOperator":
        """The transpose Aᵀ, not conjugated."""

    @abc.abstractmethod
    def in_structure(self) -> Structure:
        """The pytree of `jax.ShapeDtypeStruct` that `mv` takes."""

    @abc.abstractmethod
    def out_structure(self) -> Structure:
        """The pytree of `jax.ShapeDtypeStruct` that `mv` returns."""

    def in_size(self) -> int:
        """Total number of scalars of the input: the columns of the matrix."""
        return size_of(self.in_structure())

    def out_size(self) -> int:
        """Total number of scalars of the output: the rows of the matrix."""
        return size_of(self.out_structure())

    @property
    def T(self) -> "AbstractLinearOperator":
        """The transpose Aᵀ. `A.T @ A` knows that it is symmetric."""
        return remember(self.transpose(), self, Reflection.TRANSPOSE)

    @property
    def H(self) -> "AbstractLinearOperator":
        """The adjoint Aᴴ, the conjugate transpose. `A.H @ A` knows that it is Hermitian
        positive semidefinite."""
        return remember(generic.conj(self.transpose()), self, Reflection.ADJOINT)

    def adjoint(self) -> "AbstractLinearOperator":
        """The adjoint Aᴴ, the same as `.H`."""
        return self.H

    def __add__(self, other: Any) -> "AbstractLinearOperator":
        return generic.add(self, _operator(other, "+"))

    def __sub__(self, other: Any) -> "AbstractLinearOperator":
        return generic.add(self, generic.negate(_operator(other, "-")))

    def __matmul__(self, other: Any) -> "AbstractLinearOperator":
        return generic.compose(self, _operator(other, "@"))

    def __mul__(self, other: Any) -> "AbstractLinearOperator":
        return generic.scale(self, scalar(other, "*"))

    def __rmul__(self, other: Any) -> "AbstractLinearOperator":
        return generic.scale(self, scalar(other, "*"))

    def __truediv__(self, other: Any) -> "AbstractLinearOperator":
        return generic.divide(self, scalar(other, "/"))

    def __neg__(self) -> "AbstractLinearOperator":
        return generic.negate(self)

    # Reached only when the left operand is no operator.
    def __radd__(self, other: Any) -> "AbstractLinearOperator":
        generic.reject(other, "`+`")

    def __rsub__(self, other: Any) -> "AbstractLinearOperator":
        generic.reject(other, "`-`")

    def __rmatmul__(self, other: Any) -> "AbstractLinearOperator":
        generic.reject(other, "`@`")

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError(
            f"an operator is not an array: {summary(self)}; its matrix is "
            "`operator.as_matrix()`."
        )

    def __repr__(self) -> str:
        return summary(self)


def _operator(other: Any, sign: str) -> AbstractLinearOperator:
    if isinstance(other, AbstractLinearOperator):
        return other
    hint = ""
    if sign == "@":
        hint = " To apply an operator to a vector, call `operator.mv(vector)`."
    elif isinstance(other, NUMBERS):
        hint = " For A + c I write `A + c * IdentityLinearOperator(A.in_structure())`."
    try:
        generic.reject(other, f"`{sign}`")
    except ValueError as error:
        raise ValueError(str(error) + hint) from None


# Python numbers, whose values are known while tracing too.
NUMBERS = (bool, int, float, complex)


def scalar(other: Any, sign: str) -> Any:
    """A Python scalar as it is (its sign is known to the tags), else an array `[]`."""
    if isinstance(other, NUMBERS) and not isinstance(other, np.generic):
        return other
    if isinstance(other, jax.Array | np.ndarray | np.generic) and jnp.ndim(other) == 0:
        return jnp.asarray(other)
    got = repr(other)
    if not isinstance(other, AbstractLinearOperator) and hasattr(other, "shape"):
        got = f"an array of shape {other.shape}"
    raise ValueError(
        f"operator `{sign}` takes a scalar, but got {got}. To compose two operators, "
        "use `@`; to apply one to a vector, call `operator.mv(vector)`."
    )
