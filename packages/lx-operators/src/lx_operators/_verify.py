"""Promises, checked on demand: is an operator what its type and tags say it is?

Small operators are checked element by element on their dense matrix, by NumPy. Large
ones are checked by products with random vectors, which find a broken promise with high
probability.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from ._functions import reject
from ._operator import AbstractLinearOperator
from ._printing import summary
from ._probing import by_columns, probe_tridiagonal
from ._promotion import promoted_mv
from ._properties import known
from ._structures import (
    Structure,
    common_dtype,
    complex_to_real_dtype,
    describe,
    is_complex,
    is_real,
    promote_types,
    ravel,
    size_of,
    structure_of,
    structures_of,
    unravel,
)
from ._tags import (
    Tag,
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
from .sparse import _lazily as sparse


@dataclasses.dataclass(frozen=True)
class Check:
    """One promise, and how far the operator is from keeping it."""

    promise: str
    error: float  # relative to the operator's own scale
    tolerance: float
    how: str

    @property
    def ok(self) -> bool:
        return self.error <= self.tolerance  # a NaN is not


@dataclasses.dataclass(frozen=True)
class Verification:
    """What `verify` found: `ok`, the single `checks`, and as `str` a table of them."""

    operator: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether every promise is kept, as far as can be seen."""
        return all(check.ok for check in self.checks)

    @property
    def broken(self) -> tuple[str, ...]:
        """The promises that are not kept."""
        return tuple(check.promise for check in self.checks if not check.ok)

    def __str__(self) -> str:
        header = ("", "promise", "error", "tolerance", "checked by")
        rows = [
            (
                "ok" if check.ok else "BROKEN",
                check.promise,
                f"{check.error:.1e}",
                f"{check.tolerance:.1e}",
                check.how,
            )
            for check in self.checks
        ]
        widths = [max(map(len, column)) for column in zip(header, *rows)]
        lines = (
            "  ".join(word.ljust(width) for word, width in zip(row, widths)).rstrip()
            for row in (header, *rows)
        )
        return "\n".join([self.operator, *lines])


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
    """Check that an operator is what its type and tags promise.

    Always: structures, linearity, the transpose (yᵀ(A x) = (Aᵀy)ᵀx) and the adjoint
    (⟨y, A x⟩ = ⟨Aᴴy, x⟩). Then every tag that is known of it, declared or implied. Up
    to a size, tags are read off the dense matrix, and that matrix is compared with
    `as_matrix()`; beyond, random products look for a contradiction. Semidefiniteness is
    then judged by the extreme Ritz values of a Lanczos process with full
    reorthogonalisation, which lie within the spectrum (Parlett, The Symmetric
    Eigenvalue Problem, 1998, chapter 13, doi:10.1137/1.9781611971163), rank by those of
    AᴴA, which cannot tell a condition number beyond 1/√ε from a deficient rank.

    Meant for tests and debugging: it computes eagerly and cannot be traced.

    Args:
        operator: an `AbstractLinearOperator`.
        key: a `jax.random.key` for the probes.
        dense_up_to: the largest size, of rows or columns, for which a dense matrix is
            formed.
        probes: how many random vectors to use for each check.
        lanczos_steps: how many Lanczos steps, at most, for large operators.
        rtol: relative error up to which a promise counts as kept; by default
            64 ε √max(m, n), of the operator's least precise dtype.
        throw: whether a broken promise raises.

    Returns:
        A report: `report.ok`, `report.broken`, `report.checks`; `print(report)` shows
        it as a table.

    Raises:
        ValueError: `operator` is no operator; `verify` was called inside `jit` or
            another transformation; or `throw` is true and a promise is broken.

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
        rtol = 64 * _epsilon(in_structure, out_structure) * math.sqrt(max(m, n, 1))
    key_always, key_tags = jax.random.split(key)
    checks = list(_always(operator, key_always, probes, rtol))
    if checks[0].ok:  # the structures: else nothing more can be computed
        if max(m, n) <= dense_up_to:
            checks += _dense(operator, rtol)
        else:
            checks += _probed(operator, key_tags, probes, lanczos_steps, rtol)
    report = Verification(summary(operator), tuple(checks))
    if throw and not report.ok:
        raise ValueError(
            f"`operator` does not keep what it promises: {', '.join(report.broken)}. "
            f"Mend it, or leave the tags out.\n{report}"
        )
    return report


def _epsilon(*structures: Structure) -> float:
    dtypes = {leaf.dtype for leaf in jtu.tree_leaves(structures)}
    return max((float(jnp.finfo(dtype).eps) for dtype in dtypes), default=0.0)


# Products with flat NumPy vectors, compiled once for all.


@eqx.filter_jit
def _flat(operator: AbstractLinearOperator, x: Array) -> Array:
    out = promoted_mv(operator, unravel(x, structures_of(operator)[0]))
    return ravel(out)


@eqx.filter_jit
def _columns(operator: AbstractLinearOperator) -> Array:
    return by_columns(operator)


@eqx.filter_jit
def _bands(operator: AbstractLinearOperator) -> tuple[Array, Array, Array]:
    return probe_tridiagonal(operator)


def _times(operator: AbstractLinearOperator, x: np.ndarray) -> np.ndarray:
    dtype = common_dtype(structures_of(operator)[0])
    return _wide(_flat(operator, jnp.asarray(x, dtype)))


def _wide(x: Any) -> np.ndarray:
    """In NumPy's double precision, where comparing adds no error of its own."""
    x = np.asarray(x)
    return x.astype(np.complex128 if np.iscomplexobj(x) else np.float64)


def _random(structure: Structure, key: Array) -> np.ndarray:
    """A flat random vector; where a leaf is real, so are its elements."""
    leaves = jtu.tree_leaves(structure)
    keys = jax.random.split(key, max(len(leaves), 1))
    parts = []
    for leaf, k in zip(leaves, keys):
        # in float32 at least, as there is no narrower complex number
        wide = promote_types(complex_to_real_dtype(leaf.dtype), jnp.float32)
        real, imag = _wide(jax.random.normal(k, (2, leaf.size), wide))
        parts.append(real if is_real(leaf) else real + 1j * imag)
    return np.concatenate(parts) if parts else np.zeros(0)


def _pairs(structures: tuple[Structure, ...], key: Array, probes: int) -> Iterator:
    for k in jax.random.split(key, probes):
        keys = jax.random.split(k, len(structures))
        yield tuple(_random(s, key) for s, key in zip(structures, keys))


def _norm(x: np.ndarray) -> float:
    return float(np.linalg.norm(x))


def _relative(error: float, scale: float) -> float:
    if error == 0:
        return 0.0
    return float(error / scale) if scale else float("inf")


def _worst(errors: Iterator[float]) -> float:
    """The largest; NaN if one is."""
    return float(np.max(np.fromiter(errors, float), initial=0.0))


def _always(
    operator: AbstractLinearOperator, key: Array, probes: int, rtol: float
) -> Iterator[Check]:
    """What every operator promises."""
    ins, outs = structures_of(operator)
    how = f"{probes} random products"
    wrong = _wrong_structures(operator)
    yield Check(f"structures{wrong}", float(bool(wrong)), 0.0, "shapes and dtypes")
    if wrong:
        return
    keys = jax.random.split(key, 3)

    def linearity() -> Iterator[float]:
        scalars = (0.7 + 0.4j, -1.3j) if is_complex(ins) else (0.7, -1.3)
        for x, y in _pairs((ins, ins), keys[0], probes):
            a, b = (np.asarray(s) for s in scalars)
            ax, by = a * _times(operator, x), b * _times(operator, y)
            error = _times(operator, a * x + b * y) - ax - by
            yield _relative(_norm(error), _norm(ax) + _norm(by))

    yield Check("linearity", _worst(linearity()), rtol, how)
    if getattr(operator, "sparsity", None) is not None:
        yield Check("sparsity", _lacking(operator), rtol, "1 random product")
    if is_real(ins) and not is_real(outs):
        return  # its transpose would drop imaginary parts: there is none
    transpose, adjoint = operator.T, operator.H

    def duality(reflected: AbstractLinearOperator, conj: Callable) -> Iterator[float]:
        for x, y in _pairs((ins, outs), keys[1], probes):
            ax, ay = _times(operator, x), _times(reflected, y)
            error = abs(conj(y) @ ax - conj(ay) @ x)
            yield _relative(error, _norm(y) * _norm(ax) + _norm(ay) * _norm(x))

    yield Check("transpose", _worst(duality(transpose, lambda v: v)), rtol, how)
    yield Check("adjoint", _worst(duality(adjoint, np.conj)), rtol, how)


def _lacking(operator: AbstractLinearOperator) -> float:
    """How far a random product is from that of the matrix by the operator's pattern."""
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


# Small operators: by the dense matrix.


def _dense(operator: AbstractLinearOperator, rtol: float) -> Iterator[Check]:
    matrix = _wide(_columns(operator))
    stored = _wide(operator.as_matrix())
    scale = float(np.max(np.abs(matrix), initial=0.0))
    shape = stored.shape == matrix.shape
    error = np.max(np.abs(stored - matrix), initial=0.0) if shape else np.inf
    yield Check("as_matrix", _relative(error, scale), rtol, "dense matrix by products")
    for tag in _promised(operator):
        off, how = _DENSE[tag](matrix)
        if shape:  # what is stored must keep the promise as well
            off = np.maximum(off, _DENSE[tag](stored)[0])
        absolute = tag in (unit_diagonal_tag, nonsingular_tag)
        error = float(off) if absolute else _relative(off, scale)
        yield Check(tag.name, error, rtol, how)


def _promised(operator: AbstractLinearOperator) -> list[Tag]:
    """The tags that can be checked, in the order of the table below."""
    tags = known(operator)
    return [tag for tag in _DENSE if tag in tags]


def _off(mask: Callable[[np.ndarray], np.ndarray]) -> Callable:
    """How large the elements are that should be zero."""
    return lambda a: (np.max(np.abs(mask(a)), initial=0.0), "elements")


def _square(measure: Callable[[np.ndarray], float]) -> Callable:
    def measured(a: np.ndarray) -> tuple[float, str]:
        if a.shape[0] != a.shape[1]:
            return np.inf, "shape"
        return measure(a), "elements"

    return measured


def _semidefinite(sign: int) -> Callable:
    def measure(a: np.ndarray) -> tuple[float, str]:
        off, _ = _DENSE[hermitian_tag](a)
        if not np.isfinite(off):
            return np.inf, "eigenvalues"
        least = np.min(np.linalg.eigvalsh(sign * (a + a.conj().T) / 2), initial=0.0)
        return np.maximum(off, -least), "eigenvalues"

    return measure


def _rank_deficiency(a: np.ndarray) -> tuple[float, str]:
    """1 if the rank is deficient to working precision (ε max(m, n)), else 0."""
    if not np.all(np.isfinite(a)):
        return np.inf, "singular values"
    values = np.linalg.svd(a, compute_uv=False)
    if not values.size:
        return 0.0, "singular values"
    least = max(a.shape) * np.finfo(a.dtype).eps * values[0]
    return float(values[-1] <= least), "singular values"


_DENSE: dict[Tag, Callable[[np.ndarray], tuple[float, str]]] = {
    diagonal_tag: _off(lambda a: a - _band(a, 0)),
    tridiagonal_tag: _off(lambda a: a - _band(a, 1)),
    lower_triangular_tag: _off(lambda a: np.triu(a, 1)),
    upper_triangular_tag: _off(lambda a: np.tril(a, -1)),
    unit_diagonal_tag: _off(lambda a: np.diagonal(a) - 1),
    symmetric_tag: _square(lambda a: np.max(np.abs(a - a.T), initial=0.0)),
    hermitian_tag: _square(lambda a: np.max(np.abs(a - a.conj().T), initial=0.0)),
    positive_semidefinite_tag: _semidefinite(1),
    negative_semidefinite_tag: _semidefinite(-1),
    nonsingular_tag: _rank_deficiency,
}


def deviation(tag: Tag, matrix: np.ndarray) -> tuple[float, str]:
    """How far a dense matrix is from what a tag promises, and how that was judged."""
    return _DENSE[tag](matrix)


def _band(a: np.ndarray, width: int) -> np.ndarray:
    return np.tril(np.triu(a, -width), width)


# Large operators: by products.


def _probed(
    operator: AbstractLinearOperator,
    key: Array,
    probes: int,
    steps: int,
    rtol: float,
) -> Iterator[Check]:
    ins, _ = structures_of(operator)
    for tag, k in zip(_promised(operator), jax.random.split(key, len(_DENSE))):
        if tag in _BY_PROBE:
            pairs = _pairs((ins, ins), k, probes)
            error = _worst(_BY_PROBE[tag](operator, *pair) for pair in pairs)
            yield Check(tag.name, error, rtol, f"{probes} random products")
        else:
            error, how = _by_lanczos(operator, tag, k, steps)
            yield Check(tag.name, error, rtol, how)


def _probe_symmetric(operator, x, y, conj: Callable = lambda v: v) -> float:
    ax, ay = _times(operator, x), _times(operator, y)
    error = abs(conj(y) @ ax - conj(ay) @ x)
    return _relative(error, _norm(y) * _norm(ax) + _norm(ay) * _norm(x))


def _probe_hermitian(operator, x, y) -> float:
    return _probe_symmetric(operator, x, y, np.conj)


def _probe_diagonal(operator, x, y) -> float:
    main, ax = _times(operator, np.ones(x.size)), _times(operator, x)
    return _relative(_norm(ax - main * x), _norm(ax))


def _probe_tridiagonal(operator, x, y) -> float:
    ax = _times(operator, x)
    if ax.size != x.size:  # rectangular: far columns must not be seen in the first row
        far = np.where(np.arange(x.size) > 1, x, 0)
        return _relative(abs(_times(operator, far)[:1]).max(initial=0), _norm(ax))
    main, lower, upper = (_wide(band) for band in _bands(operator))
    expected = main * x
    expected[1:] += lower * x[:-1]
    expected[:-1] += upper * x[1:]
    return _relative(_norm(ax - expected), _norm(ax))


def _probe_lower(operator, x, y) -> float:
    """What starts at element k must not be seen above row k."""
    k = _split(y)
    late = np.where(np.arange(x.size) >= k, x, 0)
    return _relative(_norm(_times(operator, late)[:k]), _norm(_times(operator, x)))


def _probe_upper(operator, x, y) -> float:
    """What ends before element k must not be seen from row k on."""
    k = _split(y)
    early = np.where(np.arange(x.size) < k, x, 0)
    return _relative(_norm(_times(operator, early)[k:]), _norm(_times(operator, x)))


def _split(y: np.ndarray) -> int:
    """A random index, from a random vector's bits."""
    seed = int(abs(y[0].real) * 2**32)
    return int(np.random.default_rng(seed).integers(1, y.size))


def _probe_unit(operator, x, y) -> float:
    """A random column's diagonal element must be one."""
    k = _split(y) - 1
    out = _times(operator, (np.arange(x.size) == k).astype(float))
    return float(abs(out[k] - 1)) if k < out.size else 0.0


_BY_PROBE: dict[Tag, Callable[..., float]] = {
    symmetric_tag: _probe_symmetric,
    hermitian_tag: _probe_hermitian,
    diagonal_tag: _probe_diagonal,
    tridiagonal_tag: _probe_tridiagonal,
    lower_triangular_tag: _probe_lower,
    upper_triangular_tag: _probe_upper,
    unit_diagonal_tag: _probe_unit,
}


def _by_lanczos(
    operator: AbstractLinearOperator, tag: Tag, key: Array, steps: int
) -> tuple[float, str]:
    """Semidefiniteness and rank, by extreme Ritz values: error, how."""
    ins, outs = structures_of(operator)
    if tag is not nonsingular_tag:
        sign = 1 if tag is positive_semidefinite_tag else -1
        ritz = _ritz_values(lambda v: sign * _times(operator, v), ins, key, steps)
        error = _relative(max(0.0, -ritz.min()), abs(ritz).max())
        return error, f"{ritz.size} Lanczos steps"
    if diagonal_tag in known(operator):
        main = abs(_times(operator, np.ones(size_of(ins))))
        singular = bool(np.any(main == 0)) or not np.all(np.isfinite(main))
        return float(singular), "diagonal"
    # The smaller Gram operator: definite if the rank is full.
    adjoint = operator.H
    if size_of(outs) < size_of(ins):
        ritz = _ritz_values(
            lambda v: _times(operator, _times(adjoint, v)), outs, key, steps
        )
    else:
        ritz = _ritz_values(
            lambda v: _times(adjoint, _times(operator, v)), ins, key, steps
        )
    # σ² is seen to ε only: a Ritz value below that is evidence of a zero.
    singular = not ritz.min() > _epsilon(ins, outs) * ritz.max()
    return float(singular), f"{ritz.size} Lanczos steps on AᴴA"


def _ritz_values(
    times: Callable[[np.ndarray], np.ndarray], structure: Structure, key: Array, k: int
) -> np.ndarray:
    """Eigenvalues of the projection of a Hermitian operator onto a Krylov space, by
    Lanczos with full reorthogonalisation."""
    q = _random(structure, key)
    basis, projected = [q / _norm(q)], []
    for _ in range(min(k, q.size)):
        w = times(basis[-1])
        q = np.stack(basis)
        projected.append(w)
        for _ in range(2):  # twice is enough (Kahan; Parlett 1998, section 6.9)
            w = w - q.T @ (q.conj() @ w)
        beta = _norm(w)
        if not beta > 1e-12 * _norm(projected[-1]):
            break  # an invariant subspace
        basis.append(w / beta)
    q = np.stack(basis[: len(projected)])
    small = q.conj() @ np.stack(projected).T
    if not np.all(np.isfinite(small)):
        return np.full(1, np.nan)
    return np.linalg.eigvalsh((small + small.conj().T) / 2)
