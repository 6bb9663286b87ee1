"""One of each kind of operator, made of a matrix, and the families of CI."""

import jax
import jax.numpy as jnp
import lineax as lx

from tests.modes.test_export import (
    EVERY,
    ON_HOST,
    banded,
    blocks,
    definite,
    dense,
    kronecker,
    low_rank,
    lower,
    permutation,
    sparse,
    square_blocks,
    tridiagonal,
)

SOLVERS = EVERY | ON_HOST  # name -> solver, and its operator of a matrix


def _struct(A):
    return jax.ShapeDtypeStruct(A.shape[:1], A.dtype)


def _sparse_diagonals(A):
    return lx.SparseDiagonalsLinearOperator(A[:3], (-1, 0, 2))


def _sparse_blocks(A):
    pattern = lx.SparsityPattern([0, 0, 1], [0, 1, 1], (2, 2))
    return lx.BlockSparseLinearOperator(A.reshape(-1, 2, 2)[:3], pattern)


def _tangent(A):
    return lx.TangentLinearOperator(dense()(A), dense()(2 * A))


OPERATORS = {
    "Matrix": dense(),
    "Diagonal": lambda A: lx.DiagonalLinearOperator(jnp.diagonal(A)),
    "Tridiagonal": tridiagonal,
    "Banded": banded,
    "Block": square_blocks,
    "BlockDiagonal": lambda A: lx.BlockDiagonalLinearOperator([dense()(A), lower(A)]),
    "BlockTridiagonal": blocks,
    "Circulant": lambda A: lx.CirculantLinearOperator(A[0]),
    "Toeplitz": lambda A: lx.ToeplitzLinearOperator(A[:, 0], A[0]),
    "Permutation": permutation,
    "Sparse": sparse(dense()),
    "SparseDiagonals": _sparse_diagonals,
    "BlockSparse": _sparse_blocks,
    "Identity": lambda A: lx.IdentityLinearOperator(_struct(A)),
    "PyTree": lambda A: lx.PyTreeLinearOperator([A, A], [_struct(A)] * 2),
    "Function": lambda A: lx.FunctionLinearOperator(lambda x: A @ x, _struct(A)),
    "Jacobian": lambda A: lx.JacobianLinearOperator(lambda x, A: A @ x**2, A[0], A),
    "Kronecker": kronecker(dense()),
    "KroneckerSum": lambda A: lx.KroneckerSumLinearOperator(dense()(A), lower(A)),
    "LowRankUpdate": low_rank,
    "Add": lambda A: dense()(A) + tridiagonal(A),
    "Composed": lambda A: dense()(A) @ tridiagonal(A),
    "Gram": lambda A: dense()(A).H @ dense()(A),
    "Mul": lambda A: A[0, 0] * dense()(A),
    "Div": lambda A: dense()(A) / A[0, 0],
    "Neg": lambda A: -dense()(A),
    "Tagged": lambda A: lx.TaggedLinearOperator(definite(A), lx.symmetric_tag),
    "Tangent": _tangent,
    "Stacked": EVERY["Stacked"][1],
    "Zero": lambda A: lx.ZeroLinearOperator(_struct(A), _struct(A)),
    "Inverse": lambda A: lx.invert(dense()(A), lx.LU()),
}

# What CI runs in a mode: a leaf and a composite; a dense, a structured and an iterative
# solver, and one made of others.
FAMILIES = {
    "operator": ("Matrix", "Circulant", "Function", "Composed", "Kronecker"),
    "solver": ("LU", "QR", "Tridiagonal", "CG", "GMRES", "LSMR", "Normal"),
}
