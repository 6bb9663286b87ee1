"""The interface of a library of sparse factorisations.

A backend works on the host, on NumPy arrays, and knows nothing of JAX. It is handed
matrices whose rows and columns are scaled, whose values are finite and whose size is at
least one; caches, threads, scaling, condition numbers, refinement and the status belong
to the caller.
"""

import abc
from typing import Any, Literal, NamedTuple

import numpy as np

Kind = Literal["general", "definite", "hermitian", "symmetric"]
"""`"definite"` is Hermitian positive definite, `"hermitian"` is A = Aᴴ of complex
numbers, `"symmetric"` is A = Aᵀ, real or complex."""


class SingularMatrixError(Exception):
    """A pivot is zero, or the pattern does not allow nonzero pivots."""


class NotDefiniteError(Exception):
    """A pivot of a matrix that should be positive definite is not positive."""


class CSC(NamedTuple):
    """A square sparse matrix by columns, both triangles stored.

    The arrays of the pattern are the same objects whenever the pattern is the same.
    """

    n: int
    starts: np.ndarray
    """`[n + 1]`, int32: where each column starts."""
    rows: np.ndarray
    """`[size]`, int32: ascending in each column."""
    values: Any
    """`[size]`: float32, float64, complex64 or complex128."""


class SparseFactors(abc.ABC):
    """The factors of one matrix. Several threads may solve with them at once."""

    nbytes: int
    """About how much memory they take."""
    inertia: tuple[int, int, int] | None = None
    """The numbers of positive, negative and zero eigenvalues of a Hermitian matrix;
    None if that is not known."""

    @abc.abstractmethod
    def solve(self, b: np.ndarray, adjoint: bool) -> np.ndarray:
        """A⁻¹ b, or A⁻ᴴ b.

        Args:
            b: `[n]`, of the dtype of the matrix.
            adjoint: which of the two.
        """

    def solve_many(self, b: np.ndarray, adjoint: bool) -> np.ndarray:
        """A⁻¹ B, or A⁻ᴴ B, by default column by column.

        Args:
            b: `[n, k]`.
            adjoint: which of the two.
        """
        columns = [self.solve(np.ascontiguousarray(x), adjoint) for x in b.T]
        return np.stack(columns, axis=1)

    def slogdet(self) -> tuple[Any, float] | None:
        """The sign of det A, of modulus 1, and log |det A|; None if the library does
        not tell."""
        return None

    def root(self, z: np.ndarray) -> np.ndarray | None:
        """W Z, where WWᴴ is A, which is definite; None if the library does not tell.

        Args:
            z: `[n, k]`.
        """
        return None

    def inverse_at(self, i: np.ndarray, j: np.ndarray) -> np.ndarray | None:
        """Elements of A⁻¹; None if the library does not tell.

        Args:
            i, j: rows and columns; fast if A has an entry at each (j, i).
        """
        return None


class SparseBackend(abc.ABC):
    """A library of sparse factorisations, as a class with three methods.

    Instances are hashable, and equal if they do the same (a frozen dataclass is both).
    """

    @abc.abstractmethod
    def supports(self, kind: Kind, dtype: np.dtype) -> bool:
        """Whether matrices of this kind and dtype can be factorised.

        Args:
            kind: what is known of the matrix.
            dtype: float32, float64, complex64 or complex128.
        """

    @abc.abstractmethod
    def analyse(self, matrix: CSC, kind: Kind, robust: bool) -> Any:
        """Whatever is worth keeping for matrices of the same pattern, such as an
        ordering. It may have an attribute `nbytes`.

        Args:
            matrix: the first matrix of this pattern.
            kind: what is known of it.
            robust: whether stable pivots matter more than sparse factors, because
                earlier factors of this matrix were too inaccurate.
        """

    @abc.abstractmethod
    def factor(self, analysis: Any, matrix: CSC, kind: Kind) -> SparseFactors:
        """Factorise.

        Args:
            analysis: what `analyse` returned, for a matrix of the same pattern.
            matrix: A.
            kind: as in `analyse`.

        Raises:
            SingularMatrixError: A is singular.
            NotDefiniteError: A is not positive definite.
        """


class Task(NamedTuple):
    """The properties of a matrix that are known beforehand, and the backend that
    factorises it."""

    n: int
    kind: Kind
    negative: bool  # whether -A is what is definite
    backend: SparseBackend
    rows: int = 0  # of F, for the augmented system of least squares
