"""Operators from SciPy's `LinearOperator`, and to it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ._functions import conj
from ._operator import AbstractLinearOperator
from ._promotion import conform
from ._structures import common_dtype, dtype_of, ravel, shape_of, unravel
from .leaves.matrix import MatrixLinearOperator
from .sparse.operator import SparseLinearOperator


def aslinearoperator(A: Any) -> AbstractLinearOperator:
    """Converts a matrix or operator of another library to an operator.

    Args:
        A: an operator, which is returned as it is; an array; a SciPy sparse matrix; a
            `BCOO` or `BCSR` matrix of JAX; or a `scipy.sparse.linalg.LinearOperator` or
            any other object with `shape`, `dtype` and `matvec`. Products of such an
            object run on the host, through a callback, and carry no derivative with
            respect to the data inside it; solves are differentiable with respect to the
            vector. A transpose needs `rmatvec`.

    Returns:
        An operator between one-dimensional arrays.

    Raises:
        ValueError: `A` is none of these.

    ```python
    import scipy.sparse.linalg

    halves = scipy.sparse.linalg.LinearOperator(
        (3, 3), lambda x: x / 2, rmatvec=lambda x: x / 2, dtype="float32"
    )
    lx.aslinearoperator(halves).mv(jnp.ones(3))  # [0.5, 0.5, 0.5]
    ```
    """
    if isinstance(A, AbstractLinearOperator):
        return A
    if hasattr(A, "todense"):
        for kind in ("bcoo", "bcsr"):
            if type(A).__name__ == kind.upper():
                return getattr(SparseLinearOperator, f"from_{kind}")(A)
        return SparseLinearOperator.from_scipy(A)
    if isinstance(A, jax.Array | np.ndarray):
        return MatrixLinearOperator(A)
    if hasattr(A, "matvec") and hasattr(A, "shape"):
        dtype = jax.dtypes.canonicalize_dtype(getattr(A, "dtype", None) or float)
        return _HostLinearOperator(
            A.matvec, getattr(A, "rmatvec", None), A.shape, dtype
        )
    raise ValueError(
        "`aslinearoperator` takes an operator, an array, a sparse matrix, or a "
        "`scipy.sparse.linalg.LinearOperator`, but got a value of type "
        f"`{type(A).__name__}`. For a function use `FunctionLinearOperator(fn, "
        "structure)`."
    )


def to_scipy(operator: AbstractLinearOperator) -> Any:
    """A `scipy.sparse.linalg.LinearOperator` with the products of an operator, for
    SciPy's solvers and eigenvalue routines.

    Args:
        operator: A. If it acts on pytrees, SciPy's vectors are their leaves, raveled
            one after the other.

    Returns:
        SciPy's operator, of shape `[out_size, in_size]`, with `matvec`, `matmat`,
        `rmatvec` and `rmatmat` (the adjoint), each compiled once.

    ```python
    import scipy.sparse.linalg

    A = lx.ToeplitzLinearOperator(jnp.array([2.0, -1.0, 0.0, 0.0]))
    largest = scipy.sparse.linalg.eigsh(lx.to_scipy(A), k=1)[0]
    ```
    """
    import scipy.sparse.linalg

    dtype = np.dtype(dtype_of(operator))
    adjoint = operator.H

    def flat(operator: AbstractLinearOperator, v: Any) -> Any:
        product = operator.mv(unravel(v, operator.in_structure()))
        return ravel(product, common_dtype(product))

    def numpys(operator: AbstractLinearOperator, many: bool) -> Callable:
        mapped = jax.vmap(flat, (None, 1), 1) if many else flat
        compiled = eqx.filter_jit(mapped)

        def product(v: np.ndarray) -> np.ndarray:
            v = v if many else v.reshape(-1)
            wide = np.result_type(v, dtype) if v.dtype.kind == "c" else dtype
            return np.asarray(compiled(operator, jnp.asarray(v, wide)))

        return product

    # its declared type is narrower than what it accepts
    make: Any = scipy.sparse.linalg.LinearOperator
    return make(
        shape_of(operator),
        matvec=numpys(operator, False),
        rmatvec=numpys(adjoint, False),
        matmat=numpys(operator, True),
        rmatmat=numpys(adjoint, True),
        dtype=dtype,
    )


class _HostLinearOperator(AbstractLinearOperator):
    """Products by calls of Python: `matvec` is A x, `rmatvec` Aᴴ x."""

    matvec: Callable = eqx.field(static=True)
    rmatvec: Callable | None = eqx.field(static=True)
    size: tuple[int, int] = eqx.field(static=True)
    kind: Any = eqx.field(static=True)

    def mv(self, vector):
        vector = conform(vector, self.in_structure(), "the vector")
        out = jax.ShapeDtypeStruct(self.size[:1], vector.dtype)

        def call(x: Any) -> np.ndarray:
            product = self.matvec(np.asarray(x, out.dtype))
            return np.asarray(product, out.dtype).reshape(out.shape)

        return jax.pure_callback(call, out, vector, vmap_method="sequential")

    def as_matrix(self):
        return jax.vmap(self.mv, 1, 1)(jnp.eye(self.size[1], dtype=self.kind))

    def transpose(self):
        if self.rmatvec is None:
            raise ValueError(
                "the transpose of an operator from SciPy needs its `rmatvec`. Give the "
                "`LinearOperator` one, or use a solver without products with the "
                "transpose, such as `GMRES`."
            )
        return _HostLinearOperator(
            _conjugated(self.rmatvec),
            _conjugated(self.matvec),
            (self.size[1], self.size[0]),
            self.kind,
        )

    def in_structure(self):
        return jax.ShapeDtypeStruct(self.size[1:], self.kind)

    def out_structure(self):
        return jax.ShapeDtypeStruct(self.size[:1], self.kind)

    shape = property(shape_of)
    dtype = property(dtype_of)


@dataclasses.dataclass(frozen=True)
class _Conjugated:
    """x ↦ conj(f(conj(x)))."""

    fn: Callable

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return np.conj(self.fn(np.conj(x)))


def _conjugated(fn: Callable) -> Callable:
    return fn.fn if isinstance(fn, _Conjugated) else _Conjugated(fn)


@conj.register
def _(operator: _HostLinearOperator):
    if np.dtype(operator.kind).kind != "c":
        return operator
    rmatvec = operator.rmatvec
    return _HostLinearOperator(
        _conjugated(operator.matvec),
        None if rmatvec is None else _conjugated(rmatvec),
        operator.size,
        operator.kind,
    )
