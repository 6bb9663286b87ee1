"""The table by which `AutoLinearSolver` chooses. It names every direct solver, and is
imported when the first choice is made."""

from collections.abc import Callable
from typing import NamedTuple

import jax
from lx_operators import (
    AbstractLinearOperator,
    CirculantLinearOperator,
    KroneckerLinearOperator,
    KroneckerSumLinearOperator,
    LowRankUpdateLinearOperator,
    PermutationLinearOperator,
    ToeplitzLinearOperator,
    is_diagonal,
    is_hermitian,
    is_lower_triangular,
    is_negative_semidefinite,
    is_nonsingular,
    is_positive_semidefinite,
    is_symmetric,
    is_tridiagonal,
    is_upper_triangular,
)
from lx_operators.internal import (
    bandwidths,
    bare,
    block_diagonal,
    block_shapes,
    block_tridiagonal,
)

from ._solver import AbstractLinearSolver
from .direct.banded import Banded
from .direct.block_diagonal import BlockDiagonal, full_rank_possible
from .direct.block_elimination import BlockElimination, eliminable
from .direct.block_tridiagonal import BlockTridiagonal
from .direct.cholesky import Cholesky
from .direct.circulant import Circulant
from .direct.diagonal import Diagonal
from .direct.kronecker import Kronecker, of_one_kind
from .direct.kronecker_eigh import KroneckerEigh, hermitian_factors
from .direct.lu import LU
from .direct.permutation import Permutation
from .direct.pivoted_qr import PivotedQR
from .direct.qr import QR
from .direct.sylvester import Sylvester
from .direct.toeplitz import Toeplitz
from .direct.triangular import Triangular
from .direct.tridiagonal import Tridiagonal
from .direct.woodbury import Woodbury
from .sparse._backends import has_rslab
from .sparse._matrix import is_sparse
from .sparse.cholesky import SparseCholesky
from .sparse.ldl import SparseLDL
from .sparse.least_squares import SparseLeastSquares
from .sparse.lu import SparseLU


class Row(NamedTuple):
    """Where `holds`, `solver` is taken, `because`."""

    because: str
    holds: Callable[[AbstractLinearOperator], bool]
    solver: AbstractLinearSolver


def _rectangular(operator: AbstractLinearOperator) -> bool:
    return operator.out_size() != operator.in_size()


def _triangular(operator: AbstractLinearOperator) -> bool:
    return is_lower_triangular(operator) or is_upper_triangular(operator)


def _narrow(operator: AbstractLinearOperator) -> bool:
    """Few diagonals relative to n; otherwise dense kernels are faster than a scan."""
    widths = bandwidths(operator)
    size = min(operator.in_size(), operator.out_size())
    return widths is not None and 4 * (sum(widths) + 1) <= size


def _few_rectangular(operator: AbstractLinearOperator) -> bool:
    return _rectangular(operator) and _narrow(operator)


def _blocks(operator: AbstractLinearOperator) -> bool:
    return block_diagonal(operator) is not None


def _square_blocks(operator: AbstractLinearOperator) -> bool:
    blocks = block_diagonal(operator)
    return blocks is not None and all(m == n for m, n in block_shapes(blocks))


def _full_rank_blocks(operator: AbstractLinearOperator) -> bool:
    blocks = block_diagonal(operator)
    return blocks is not None and full_rank_possible(blocks)


def _semidefinite(operator: AbstractLinearOperator) -> bool:
    return is_positive_semidefinite(operator) or is_negative_semidefinite(operator)


def _definite_block_rows(operator: AbstractLinearOperator) -> bool:
    """For others, rows must be exchanged across blocks: they are solved as bands."""
    return block_tridiagonal(operator) is not None and _semidefinite(operator)


def _kronecker(
    well_posed: bool | None,
) -> Callable[[AbstractLinearOperator], bool]:
    """A Kronecker product whose factors can be as well posed as the whole."""

    def holds(operator: AbstractLinearOperator) -> bool:
        product = bare(operator)
        if not isinstance(product, KroneckerLinearOperator):
            return False
        if well_posed is True:
            return not any(map(_rectangular, product.operators))
        return well_posed is False or of_one_kind(operator)

    return holds


def _is(kind: type) -> Callable[[AbstractLinearOperator], bool]:
    return lambda operator: isinstance(bare(operator), kind)


def _definite_toeplitz(operator: AbstractLinearOperator) -> bool:
    """Levinson's recursion may be unstable for indefinite matrices."""
    return isinstance(bare(operator), ToeplitzLinearOperator) and _semidefinite(
        operator
    )


def _update_of_nonsingular(operator: AbstractLinearOperator) -> bool:
    """A low-rank update of an operator that is known to be nonsingular."""
    update = bare(operator)
    if not isinstance(update, LowRankUpdateLinearOperator) or _rectangular(operator):
        return False
    return is_nonsingular(update.operator)


def _diagonalised(operator: AbstractLinearOperator) -> bool:
    return hermitian_factors(operator) is not None


def _kronecker_sum(operator: AbstractLinearOperator) -> bool:
    on_cpu = jax.default_backend() == "cpu"  # elsewhere JAX has no Schur form
    return on_cpu and isinstance(bare(operator), KroneckerSumLinearOperator)


# Smaller sparse matrices are solved as dense ones. New values on a known pattern, a
# 2-D grid by LU and by SuperLU on two cores: n = 144 0.2 and 1.4 ms, 256 0.7 and 1.7,
# 324 1.4 and 1.1, 1024 37 and 2.3 (CPU times).
_LARGE = 400
_LARGE_RECTANGULAR = 1000  # QR stands ill-conditioned ones better


def _large_sparse(operator: AbstractLinearOperator) -> bool:
    return is_sparse(operator) and operator.in_size() >= _LARGE


def _sparse_semidefinite(operator: AbstractLinearOperator) -> bool:
    return _semidefinite(operator) and _large_sparse(operator)


def _sparse_hermitian(operator: AbstractLinearOperator) -> bool:
    own = is_symmetric(operator) or is_hermitian(operator)
    return own and has_rslab() and _large_sparse(operator)


def _sparse_rectangular(operator: AbstractLinearOperator) -> bool:
    if not (_rectangular(operator) and is_sparse(operator)):
        return False  # before sizes are compared, which may be symbolic
    return operator.in_size() >= _LARGE_RECTANGULAR


def _any(operator: AbstractLinearOperator) -> bool:
    return True


_Rows = tuple[Row, ...]


def _structured(inner: AbstractLinearSolver, well_posed: bool | None) -> _Rows:
    """Solved by its parts: takes precedence over what is known of the whole."""
    posed = well_posed is True
    return (
        Row("it is a permutation", _is(PermutationLinearOperator), Permutation()),
        Row("it is circulant", _is(CirculantLinearOperator), Circulant(posed)),
        Row("it is a Kronecker product", _kronecker(well_posed), Kronecker(inner)),
        Row(
            "the eigenvectors of its factors diagonalise it",
            _diagonalised,
            KroneckerEigh(posed),
        ),
    )


def _square(inner: AbstractLinearSolver) -> _Rows:
    return (
        Row(
            "it is blocks that can be eliminated",
            eliminable,
            BlockElimination(inner),
        ),
        Row(
            "it is block tridiagonal and semidefinite",
            _definite_block_rows,
            BlockTridiagonal(),
        ),
        Row("it is a Kronecker sum, on a CPU", _kronecker_sum, Sylvester()),
        Row("it is a definite Toeplitz operator", _definite_toeplitz, Toeplitz()),
        Row(
            "it is a low-rank update of a nonsingular operator",
            _update_of_nonsingular,
            Woodbury(inner),
        ),
        Row("it has few diagonals", _narrow, Banded()),
        Row(
            "it is sparse, large and semidefinite",
            _sparse_semidefinite,
            SparseCholesky(),
        ),
        Row(
            "it is sparse, large and Hermitian or symmetric, and rslab is installed",
            _sparse_hermitian,
            SparseLDL(),
        ),
        Row("it is sparse and large", _large_sparse, SparseLU()),
        Row("it is triangular", _triangular, Triangular()),
        Row(
            "it is semidefinite, hence definite if nonsingular",
            _semidefinite,
            Cholesky(),
        ),
        Row("it is square, and nothing else is known", _any, LU()),
    )


def rows(
    auto: Callable[[bool | None], AbstractLinearSolver],
) -> dict[bool | None, _Rows]:
    """For each `well_posed`, the rows, read from the top: the first that holds is
    taken. `auto(well_posed)` chooses again, for a part."""
    return {
        True: (
            Row("it is diagonal", is_diagonal, Diagonal(well_posed=True)),
            Row("it is tridiagonal", is_tridiagonal, Tridiagonal()),
            Row(
                "it is block diagonal, with square blocks",
                _square_blocks,
                BlockDiagonal(auto(True)),
            ),
            *_structured(auto(True), True),
            *_square(auto(True)),
        ),
        False: (
            Row("it is diagonal", is_diagonal, Diagonal(well_posed=False)),
            Row("it is block diagonal", _blocks, BlockDiagonal(auto(False))),
            *_structured(auto(False), False),
            Row("its rank is not known", _any, PivotedQR()),
        ),
        None: (
            Row(
                "it is block diagonal",
                _full_rank_blocks,
                BlockDiagonal(auto(None)),
            ),
            Row("it is diagonal", is_diagonal, Diagonal(well_posed=False)),
            Row("it is tridiagonal", is_tridiagonal, Tridiagonal()),
            *_structured(auto(None), None),
            Row("it is not square, and has few diagonals", _few_rectangular, Banded()),
            Row(
                "it is sparse, large and not square",
                _sparse_rectangular,
                SparseLeastSquares(),
            ),
            Row("it is not square", _rectangular, QR()),
            *_square(auto(True)),
        ),
    }
