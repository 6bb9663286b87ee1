"""Factors of band matrices: substitution, and QR.

Band matrices are given by rows: an array `[m, w]` whose row i holds the elements of row
i of the matrix from column i - l to column i + u, w = l + u + 1, or, of an upper
triangular factor, from its diagonal on.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact, Real
from lx_operators.internal import shifted_rows

from .._control_flow import scan
from .._scaling import largest, norm2
from .._sizes import is_known, variates
from ._factors import HIGHEST


def back(U: Inexact[Array, "n w"], y: Inexact[Array, " n"]) -> Inexact[Array, " n"]:
    """U⁻¹ y."""
    n, w = U.shape

    def step(known, row):
        u, y = row
        x = (y - jnp.sum(u[1:] * known)) / u[0]
        return jnp.concatenate((x[None], known))[: w - 1], x

    return scan(step, jnp.zeros(w - 1, y.dtype), (U, y), reverse=True)[1]


def forward(U: Inexact[Array, "n w"], b: Inexact[Array, " n"]) -> Inexact[Array, " n"]:
    """U⁻ᴴ b."""
    n, w = U.shape

    def step(known, row):  # what is known of (Uᴴ y)ⱼ …
        u, b = row
        y = (b - known[0]) / u[0].conj()
        return jnp.append(known[1:] + u[1:].conj() * y, jnp.zeros_like(y)), y

    return scan(step, jnp.zeros(w, b.dtype), (U, b))[1]


def figures(U: Inexact[Array, "n w"]) -> tuple[Real[Array, ""], Real[Array, ""]]:
    """The reciprocal condition number of U, by one step of inverse iteration as in
    `_factors.reciprocal_condition`, and its largest element."""
    n = U.shape[0]
    columns = jnp.max(shifted_rows(jnp.abs(U).T), axis=0, initial=0)[:n]
    growth = largest(columns)
    if is_known(n) and n == 0:
        return jnp.ones_like(growth), growth
    lengths = columns.astype(U.dtype)
    y = forward(U, jnp.asarray(variates((n,), U.dtype)) * lengths)
    x = back(U, y) * lengths
    ratio = jnp.linalg.norm(y) / jnp.linalg.norm(x)
    return jnp.where(ratio > 0, ratio, jnp.zeros_like(ratio)), growth


class BandQR(NamedTuple):
    """F = QR, Q = H₁ … Hₙ, Hⱼ = I - τⱼ vⱼ vⱼᴴ with vⱼ in rows j … j + l."""

    R: Inexact[Array, "n w"]  # R[j, t] = rⱼ,ⱼ₊ₜ
    V: Inexact[Array, "n l+1"]
    tau: Inexact[Array, " n"]


def band_qr(F: Inexact[Array, "m w"], n: int, lower: int) -> BandQR:
    """Householder QR of a band matrix with at least as many rows as columns n.

    A reflection of rows j … j + l makes column j zero below the diagonal and fills l
    more diagonals above (Golub and Van Loan, "Matrix Computations", 4th ed., 2013,
    section 4.3.4), so that it is a scan over a window of l + 1 rows and l + u + 1
    columns: 4 n l (l + u) operations.
    """
    m, w = F.shape
    rows = jnp.pad(F, ((0, max(n + lower + 1 - m, 0)), (0, 0)))[: n + lower + 1]

    def step(window, below):  # rows j … j + l, from column j on
        x = window[:, 0]
        norm, size = norm2(x), jnp.abs(x[0])
        phase = jnp.where(size == 0, jnp.ones_like(x[0]), x[0] / _or_one(size, x))
        v = x.at[0].add(phase * norm.astype(x.dtype))
        v = v / _or_one(norm, x)  # of a length between 1 and 2
        # vᴴv = 2 (1 + |x₁|/‖x‖), for v = (x + ‖x‖ e₁ x₁/|x₁|) / ‖x‖
        tau = (1 / (1 + size / _or_one(norm, size))).astype(x.dtype)
        tau = jnp.where(norm == 0, jnp.zeros_like(tau), tau)
        window = _reflected(window, v, tau)
        rest = jnp.pad(window[1:, 1:], ((0, 0), (0, 1)))
        return jnp.concatenate((rest, below[None])), (window[0], v, tau)

    # row i starts at column i - l, the window at column 0
    first = jnp.pad(rows[: lower + 1], ((0, 0), (0, lower)))
    index = np.arange(lower + 1)[:, None]
    window = first[index, np.arange(w) + lower - index]
    return BandQR(*scan(step, window, rows[lower + 1 :])[1])


def _or_one(size: Real[Array, ""], like: Array) -> Array:
    """A size to divide by, with 1 in place of zero."""
    return jnp.where(size == 0, jnp.ones_like(size), size).astype(like.dtype)


def _reflected(
    X: Inexact[Array, "k c"], v: Inexact[Array, " k"], tau: Inexact[Array, ""]
) -> Inexact[Array, "k c"]:
    """(I - τvvᴴ) X"""
    product = jnp.matmul(v.conj(), X, precision=HIGHEST)
    return X - tau * v[:, None] * product[None]


def times_adjoint(
    qr: BandQR, b: Inexact[Array, " m"]
) -> tuple[Inexact[Array, " n"], Inexact[Array, " m-n"]]:
    """Qᴴb: the part in the range of F, and the rest."""
    (n, k), m = qr.V.shape, b.size
    l = k - 1
    padded = jnp.pad(b, (0, max(n + l + 1 - m, 0)))

    def step(window, row):
        v, tau, below = row
        window = _reflected(window[:, None], v, tau)[:, 0]
        return jnp.append(window[1:], below), window[0]

    rows = qr.V, qr.tau, padded[l + 1 : n + l + 1]
    window, top = scan(step, padded[: l + 1], rows)
    return top, jnp.concatenate((window[:l], padded[n + l :]))[: m - n]


def times(
    qr: BandQR, top: Inexact[Array, " n"], rest: Inexact[Array, " m-n"]
) -> Inexact[Array, " m"]:
    """Q [top; rest]."""
    (n, k), m = qr.V.shape, top.size + rest.size
    l = k - 1
    padded = jnp.pad(rest, (0, max(n + l - m, 0)))

    def step(below, row):
        v, tau, y = row
        window = jnp.concatenate((y[None], below))
        window = _reflected(window[:, None], v, tau)[:, 0]
        return window[:l], window[l]

    first, x = scan(step, padded[:l], (qr.V, qr.tau, top), reverse=True)
    return jnp.concatenate((first, x, padded[l:]))[:m]
