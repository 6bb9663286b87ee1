"""Semidefiniteness and rank of large operators, by extreme Ritz values."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Array

from .._operator import AbstractLinearOperator
from .._properties import known
from .._structures import Structure, size_of, structures_of
from .._tags import Tag, diagonal_tag, nonsingular_tag, positive_semidefinite_tag
from .vectors import epsilon, norm, random_vector, relative, times


def by_lanczos(
    operator: AbstractLinearOperator, tag: Tag, key: Array, steps: int
) -> tuple[float, str]:
    """Semidefiniteness and rank, by extreme Ritz values: error, how."""
    ins, outs = structures_of(operator)
    if tag is not nonsingular_tag:
        sign = 1 if tag is positive_semidefinite_tag else -1
        ritz = ritz_values(lambda v: sign * times(operator, v), ins, key, steps)
        error = relative(max(0.0, -ritz.min()), abs(ritz).max())
        return error, f"{ritz.size} Lanczos steps"
    if diagonal_tag in known(operator):
        main = abs(times(operator, np.ones(size_of(ins))))
        singular = bool(np.any(main == 0)) or not np.all(np.isfinite(main))
        return float(singular), "diagonal"
    # The smaller Gram operator: definite if the rank is full.
    adjoint = operator.H
    if size_of(outs) < size_of(ins):
        ritz = ritz_values(
            lambda v: times(operator, times(adjoint, v)), outs, key, steps
        )
    else:
        ritz = ritz_values(
            lambda v: times(adjoint, times(operator, v)), ins, key, steps
        )
    # σ² is accurate to ε only: a Ritz value below that is evidence of a zero.
    singular = not ritz.min() > epsilon(ins, outs) * ritz.max()
    return float(singular), f"{ritz.size} Lanczos steps on AᴴA"


def ritz_values(
    apply: Callable[[np.ndarray], np.ndarray],
    structure: Structure,
    key: Array,
    k: int,
    *,
    hermitian: bool = True,
) -> np.ndarray:
    """Eigenvalues of the projection of an operator onto a Krylov space, by k steps of
    Lanczos or of Arnoldi, with full reorthogonalisation."""
    q = random_vector(structure, key)
    basis, projected = [q / norm(q)], []
    for _ in range(min(k, q.size)):
        w = apply(basis[-1])
        if not np.all(np.isfinite(w)):
            return np.full(1, np.nan)
        q = np.stack(basis)
        projected.append(w)
        for _ in range(2):  # twice is enough (Kahan; Parlett 1998, section 6.9)
            w = w - q.T @ (q.conj() @ w)
        beta = norm(w)
        if not beta > 1e-12 * norm(projected[-1]):
            break  # an invariant subspace
        basis.append(w / beta)
    q = np.stack(basis[: len(projected)])
    small = q.conj() @ np.stack(projected).T
    if not hermitian:
        return np.linalg.eigvals(small)
    return np.linalg.eigvalsh((small + small.conj().T) / 2)
