"""The table by which `AutoLinearSolver` chooses. It names every direct solver; only the
one that is chosen is imported."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from lx_operators import (
    AbstractLinearOperator,
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
    block_grid,
    block_shapes,
    block_tridiagonal,
)

from . import _choices as choices
from ._solver import AbstractLinearSolver


class Row(NamedTuple):
    """If `holds`, the solver that `make` returns is taken, `because`."""

    because: str
    holds: Callable[[AbstractLinearOperator], bool]
    make: Callable[[], AbstractLinearSolver]

    @property
    def solver(self) -> AbstractLinearSolver:
        return self.make()


def _is_a(node: object, *names: str) -> bool:
    """Whether it is of one of these classes, by their names: a class that is asked for
    only here need not be imported."""
    return any(kind.__name__ in names for kind in type(node).__mro__)


def _plain(operator: AbstractLinearOperator) -> bool:
    """Whether it is a stored matrix, which has no parts and no pattern: nothing need be
    imported to see that."""
    return _is_a(bare(operator), "MatrixLinearOperator")


def _is(name: str) -> Callable[[AbstractLinearOperator], bool]:
    return lambda operator: _is_a(bare(operator), name)


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
    return blocks is not None and choices.full_rank_possible(blocks)


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
        product: Any = bare(operator)
        if not _is_a(product, "KroneckerLinearOperator"):
            return False
        if well_posed is True:
            return not any(map(_rectangular, product.operators))
        return well_posed is False or choices.of_one_kind(operator)

    return holds


_toeplitz = _is("ToeplitzLinearOperator")


def _definite_toeplitz(operator: AbstractLinearOperator) -> bool:
    """Levinson's recursion may be unstable for indefinite matrices."""
    return _toeplitz(operator) and _semidefinite(operator)


def _update_of_nonsingular(operator: AbstractLinearOperator) -> bool:
    """A low-rank update of an operator that is known to be nonsingular."""
    update: Any = bare(operator)
    if not _is_a(update, "LowRankUpdateLinearOperator") or _rectangular(operator):
        return False
    return is_nonsingular(update.operator)


def _diagonalised(operator: AbstractLinearOperator) -> bool:
    return not _plain(operator) and choices.hermitian_factors(operator) is not None


def _eliminable(operator: AbstractLinearOperator) -> bool:
    return block_grid(operator) is not None and choices.eliminable(operator)


def _kronecker_sum(operator: AbstractLinearOperator) -> bool:
    on_cpu = jax.default_backend() == "cpu"  # elsewhere JAX has no Schur form
    return on_cpu and _is_a(bare(operator), "KroneckerSumLinearOperator")


# Smaller sparse matrices are solved as dense ones. New values on a known pattern, a
# 2-D grid by LU and by SuperLU on two cores: n = 144 0.2 and 1.4 ms, 256 0.7 and 1.7,
# 324 1.4 and 1.1, 1024 37 and 2.3 (CPU times).
_LARGE = 400
_LARGE_RECTANGULAR = 1000  # QR handles ill-conditioned ones better


def _sparse(operator: AbstractLinearOperator) -> bool:
    return not _plain(operator) and choices.is_sparse(operator)


def _large_sparse(operator: AbstractLinearOperator) -> bool:
    return _sparse(operator) and operator.in_size() >= _LARGE


def _sparse_semidefinite(operator: AbstractLinearOperator) -> bool:
    return _semidefinite(operator) and _large_sparse(operator)


def _sparse_hermitian(operator: AbstractLinearOperator) -> bool:
    own = is_symmetric(operator) or is_hermitian(operator)
    return own and _large_sparse(operator) and choices.has_rslab()


def _sparse_rectangular(operator: AbstractLinearOperator) -> bool:
    if not (_rectangular(operator) and _sparse(operator)):
        return False  # before sizes are compared, which may be symbolic
    return operator.in_size() >= _LARGE_RECTANGULAR


def _any(operator: AbstractLinearOperator) -> bool:
    return True


_Rows = tuple[Row, ...]


def _structured(inner: AbstractLinearSolver, well_posed: bool | None) -> _Rows:
    """Solved by its parts: takes precedence over what is known of the whole."""
    posed = well_posed is True
    return (
        Row(
            "it is a permutation",
            _is("PermutationLinearOperator"),
            lambda: choices.Permutation(),
        ),
        Row(
            "it is circulant",
            _is("CirculantLinearOperator"),
            lambda: choices.Circulant(posed),
        ),
        Row(
            "it is a Kronecker product",
            _kronecker(well_posed),
            lambda: choices.Kronecker(inner),
        ),
        Row(
            "it is a Kronecker product or sum of Hermitian factors, "
            "plus a multiple of the identity",
            _diagonalised,
            lambda: choices.KroneckerEigh(posed),
        ),
    )


def _square(inner: AbstractLinearSolver) -> _Rows:
    return (
        Row(
            "it has blocks that can be eliminated",
            _eliminable,
            lambda: choices.BlockElimination(inner),
        ),
        Row(
            "it is block tridiagonal, and positive or negative semidefinite",
            _definite_block_rows,
            lambda: choices.BlockTridiagonal(),
        ),
        Row(
            "it is a Kronecker sum, on a CPU",
            _kronecker_sum,
            lambda: choices.Sylvester(),
        ),
        Row(
            "it is Toeplitz, and positive or negative definite",
            _definite_toeplitz,
            lambda: choices.Toeplitz(),
        ),
        Row(
            "it is a low-rank update of a nonsingular operator",
            _update_of_nonsingular,
            lambda: choices.Woodbury(inner),
        ),
        Row("it has few diagonals", _narrow, lambda: choices.Banded()),
        Row(
            "it is sparse, large, and positive or negative semidefinite",
            _sparse_semidefinite,
            lambda: choices.SparseCholesky(),
        ),
        Row(
            "it is sparse, large and Hermitian or symmetric, and rslab is installed",
            _sparse_hermitian,
            lambda: choices.SparseLDL(),
        ),
        Row("it is sparse and large", _large_sparse, lambda: choices.SparseLU()),
        Row("it is triangular", _triangular, lambda: choices.Triangular()),
        Row(
            "it is positive or negative semidefinite",
            _semidefinite,
            lambda: choices.Cholesky(),
        ),
        Row("it is square, and nothing else is known", _any, lambda: choices.LU()),
    )


def rows(
    auto: Callable[[bool | None], AbstractLinearSolver],
) -> dict[bool | None, _Rows]:
    """For each `well_posed`, the rows, read from the top: the first that holds is
    taken. `auto(well_posed)` chooses again, for a part."""
    return {
        True: (
            Row(
                "it is diagonal", is_diagonal, lambda: choices.Diagonal(well_posed=True)
            ),
            Row("it is tridiagonal", is_tridiagonal, lambda: choices.Tridiagonal()),
            Row(
                "it is block diagonal, with square blocks",
                _square_blocks,
                lambda: choices.BlockDiagonal(auto(True)),
            ),
            *_structured(auto(True), True),
            *_square(auto(True)),
        ),
        False: (
            Row(
                "it is diagonal",
                is_diagonal,
                lambda: choices.Diagonal(well_posed=False),
            ),
            Row(
                "it is block diagonal",
                _blocks,
                lambda: choices.BlockDiagonal(auto(False)),
            ),
            *_structured(auto(False), False),
            Row("its rank is not known", _any, lambda: choices.PivotedQR()),
        ),
        None: (
            Row(
                "it is block diagonal",
                _full_rank_blocks,
                lambda: choices.BlockDiagonal(auto(None)),
            ),
            Row(
                "it is diagonal",
                is_diagonal,
                lambda: choices.Diagonal(well_posed=False),
            ),
            Row("it is tridiagonal", is_tridiagonal, lambda: choices.Tridiagonal()),
            *_structured(auto(None), None),
            Row(
                "it is not square, and has few diagonals",
                _few_rectangular,
                lambda: choices.Banded(),
            ),
            Row(
                "it is sparse, large and not square",
                _sparse_rectangular,
                lambda: choices.SparseLeastSquares(),
            ),
            Row("it is not square", _rectangular, lambda: choices.QR()),
            *_square(auto(True)),
        ),
    }
