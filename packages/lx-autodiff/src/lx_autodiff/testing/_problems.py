"""Families of systems, with operator and truth made of the same parameters."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree
from lx_operators import (
    AbstractLinearOperator,
    DiagonalLinearOperator,
    FunctionLinearOperator,
    JacobianLinearOperator,
    MatrixLinearOperator,
    PyTreeLinearOperator,
    TridiagonalLinearOperator,
    hermitian_tag,
    lower_triangular_tag,
    negative_semidefinite_tag,
    positive_semidefinite_tag,
    upper_triangular_tag,
)


class ProblemClass(NamedTuple):
    """A family of systems: parameters, and from them the operator and the truth. The
    operator may be between any pytrees; the matrix is between these raveled."""

    name: str
    parameters: Callable[[np.random.Generator, Any], PyTree[Array]]
    operator: Callable[[PyTree[Array]], AbstractLinearOperator]
    matrix: Callable[[PyTree[Array]], Array]
    pseudoinverse: Callable[[PyTree[Array]], Array]


def random(rng: np.random.Generator, dtype: Any, *shape: int) -> Array:
    x = rng.standard_normal(shape)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        x = x + 1j * rng.standard_normal(shape)
    return jnp.asarray(x, dtype)


def _adjoint(a: Array) -> Array:
    return a.conj().T


def _inverse(a: Array) -> Array:
    return jnp.linalg.solve(a, jnp.eye(a.shape[0], dtype=a.dtype))


def _left_inverse(a: Array) -> Array:
    return _inverse(_adjoint(a) @ a) @ _adjoint(a)


def _right_inverse(a: Array) -> Array:
    return _adjoint(a) @ _inverse(a @ _adjoint(a))


def _well_conditioned(rng: np.random.Generator, dtype: Any, m: int, n: int) -> Array:
    u, _, vh = np.linalg.svd(random(rng, dtype, m, n), full_matrices=False)
    return jnp.asarray((u * np.linspace(1, 3, min(m, n))) @ vh, dtype)


def _dense(name: str, m: int, n: int, inverse: Callable, *tags: Any) -> ProblemClass:
    return ProblemClass(
        name,
        lambda rng, dtype: _well_conditioned(rng, dtype, m, n),
        lambda a: MatrixLinearOperator(a, tags),
        lambda a: a,
        inverse,
    )


def _gram(sign: int, shift: float, tag: Any, name: str) -> ProblemClass:
    """± XᴴX + shift·diag(±1): Hermitian by construction, in every direction."""

    def matrix(x: Array) -> Array:
        signs = jnp.where(jnp.arange(x.shape[0]) % 2 == 0, 1, -1).astype(x.dtype)
        return sign * (_adjoint(x) @ x) + shift * jnp.diag(signs)

    return ProblemClass(
        name,
        lambda rng, dtype: _well_conditioned(rng, dtype, 4, 4),
        lambda x: MatrixLinearOperator(matrix(x), tag),
        matrix,
        lambda x: _inverse(matrix(x)),
    )


def _deficient(name: str, m: int, n: int, tag: Any = ()) -> ProblemClass:
    """A = B C of rank 2 in every direction: A† = C†B† (Greville 1966)."""

    def parameters(rng: np.random.Generator, dtype: Any) -> tuple[Array, Array]:
        b, c = (_well_conditioned(rng, dtype, *s) for s in ((m, 2), (2, n)))
        return b, c

    def operator(bc: tuple[Array, Array]) -> AbstractLinearOperator:
        b, c = bc
        return MatrixLinearOperator(b @ c, tag)

    return ProblemClass(
        name,
        parameters,
        operator,
        lambda bc: bc[0] @ bc[1],
        lambda bc: _right_inverse(bc[1]) @ _left_inverse(bc[0]),
    )


def _semidefinite(name: str, tag: Any) -> ProblemClass:
    """A = B Bᴴ of rank 2 in every direction."""

    def operator(b: Array) -> AbstractLinearOperator:
        return MatrixLinearOperator(b @ _adjoint(b), tag)

    return ProblemClass(
        name,
        lambda rng, dtype: _well_conditioned(rng, dtype, 4, 2),
        operator,
        lambda b: b @ _adjoint(b),
        lambda b: _adjoint(_left_inverse(b)) @ _left_inverse(b),
    )


def _structured(name: str, masked: Callable, operator: Callable) -> ProblemClass:
    """A square matrix of which only some elements count."""

    def parameters(rng: np.random.Generator, dtype: Any) -> Array:
        return random(rng, dtype, 4, 4) + 4 * jnp.eye(4, dtype=dtype)

    return ProblemClass(
        name, parameters, operator, masked, lambda a: _inverse(masked(a))
    )


def _bands(a: Array) -> Array:
    return jnp.triu(jnp.tril(a, 1), -1)


class _Rotation(AbstractLinearOperator):
    """A third party's operator, with the methods that it must define and no more: the
    cyclic shift by one, plus a matrix."""

    matrix: Array

    def mv(self, vector):
        return jnp.roll(vector, 1) + self.matrix @ vector

    def as_matrix(self):
        return jax.vmap(self.mv, out_axes=1)(jnp.eye(4, dtype=self.matrix.dtype))

    def transpose(self):
        def fn(vector):
            return jnp.roll(vector, -1) + self.matrix.T @ vector

        return FunctionLinearOperator(fn, self.in_structure())

    def in_structure(self):
        return jax.ShapeDtypeStruct((4,), self.matrix.dtype)

    def out_structure(self):
        return self.in_structure()


def _blocks(a: Array) -> AbstractLinearOperator:
    """From {"u": [3], "v": []} to ([2], [2, 1])."""
    pytree = (
        {"u": a[:2, :3], "v": a[:2, 3]},
        {"u": a[2:, :3].reshape(2, 1, 3), "v": a[2:, 3:]},
    )
    out = tuple(jax.ShapeDtypeStruct(shape, a.dtype) for shape in ((2,), (2, 1)))
    return PyTreeLinearOperator(pytree, out)


def _algebra(a: Array) -> AbstractLinearOperator:
    """-(D A / 2 + 3 L), of parts that share parameters."""
    d = DiagonalLinearOperator(jnp.diag(a))
    lower = MatrixLinearOperator(jnp.tril(a), lower_triangular_tag)
    return -(d @ MatrixLinearOperator(a) / 2 + 3 * lower)


def _function(a: Array) -> AbstractLinearOperator:
    structure = jax.ShapeDtypeStruct((a.shape[1],), a.dtype)
    return FunctionLinearOperator(lambda x: a @ x, structure)


def _jacobian(a: Array) -> AbstractLinearOperator:
    def fn(x: Array, a: Array) -> Array:
        return a @ x + 0.25 * x * x

    x = jnp.linspace(-1, 1, a.shape[1]).astype(a.dtype)
    return JacobianLinearOperator(fn, x, a)


def _jacobian_matrix(a: Array) -> Array:
    x = jnp.linspace(-1, 1, a.shape[1]).astype(a.dtype)
    return a + 0.5 * jnp.diag(x)


PROBLEMS: dict[str, ProblemClass] = {
    problem.name: problem
    for problem in (
        _dense("square", 4, 4, _inverse),
        _dense("tall", 5, 3, _left_inverse),
        _dense("wide", 3, 5, _right_inverse),
        _gram(1, 0.0, positive_semidefinite_tag, "definite"),
        _gram(-1, 0.0, negative_semidefinite_tag, "negative definite"),
        _gram(1, 4.0, hermitian_tag, "indefinite"),
        _deficient("deficient", 4, 4),
        _deficient("deficient tall", 5, 3),
        _deficient("deficient wide", 3, 5),
        _semidefinite("semidefinite", positive_semidefinite_tag),
        _structured(
            "diagonal",
            lambda a: jnp.diag(jnp.diag(a)),
            lambda a: DiagonalLinearOperator(jnp.diag(a)),
        ),
        _structured(
            "tridiagonal",
            _bands,
            lambda a: TridiagonalLinearOperator(
                jnp.diag(a), jnp.diag(a, -1), jnp.diag(a, 1)
            ),
        ),
        _structured(
            "lower",
            jnp.tril,
            lambda a: MatrixLinearOperator(jnp.tril(a), lower_triangular_tag),
        ),
        _structured(
            "upper",
            jnp.triu,
            lambda a: MatrixLinearOperator(jnp.triu(a), upper_triangular_tag),
        ),
        _structured("function", lambda a: a, _function),
        _structured("jacobian", _jacobian_matrix, _jacobian),
        _structured("pytree", lambda a: a, _blocks),
        _structured(
            "algebra",
            lambda a: -(jnp.diag(jnp.diag(a)) @ a / 2 + 3 * jnp.tril(a)),
            _algebra,
        ),
        _structured(
            "third-party",
            lambda a: a + jnp.roll(jnp.eye(4, dtype=a.dtype), 1, axis=0),
            _Rotation,
        ),
    )
}
