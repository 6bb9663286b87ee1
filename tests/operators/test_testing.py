"""The conformance suite finds the faults of an operator, and names the law."""

import jax
import jax.numpy as jnp
import lx_operators as lx
import pytest
from lx_operators.testing import OperatorLaws


class Right(lx.AbstractLinearOperator):
    """An operator to be spoilt, one method at a time."""

    matrix: jax.Array

    def mv(self, vector):
        return self.matrix @ vector

    def as_matrix(self):
        return self.matrix

    def transpose(self):
        return type(self)(self.matrix.T)

    def in_structure(self):
        return jax.ShapeDtypeStruct(self.matrix.shape[1:], self.matrix.dtype)

    def out_structure(self):
        return jax.ShapeDtypeStruct(self.matrix.shape[:1], self.matrix.dtype)


class Affine(Right):
    def mv(self, vector):
        return self.matrix @ vector + 1


class WrongMatrix(Right):
    def as_matrix(self):
        return 2 * self.matrix


class WrongTranspose(Right):
    def transpose(self):
        return WrongTranspose(self.matrix.conj().T)


class WrongDtype(Right):
    def mv(self, vector):
        return (self.matrix @ vector).astype("complex64")


class WrongShape(Right):
    def out_structure(self):
        return jax.ShapeDtypeStruct((1, *self.matrix.shape[:1]), self.matrix.dtype)


class FalseClaim(Right):
    pass


lx.is_symmetric.register(FalseClaim, lambda operator: True)


class DropsImaginary(Right):
    def mv(self, vector):
        return (self.matrix @ vector.real).astype(self.matrix.dtype)


class NotDifferentiable(Right):
    def mv(self, vector):
        return jax.lax.stop_gradient(self.matrix @ vector)


class WrongDiagonal(Right):
    pass


lx.diagonal.register(WrongDiagonal, lambda operator: jnp.diagonal(operator.matrix) + 1)


class ManyLines(Right):
    def __repr__(self):
        return "two\nlines"


def _laws(kind, dtype_="complex128"):
    class Laws(OperatorLaws):
        dtypes = (dtype_,)

        def make(self, dtype, key):
            return kind(jax.random.normal(key, (3, 3), dtype))

    return Laws()


SPOILT = [
    (Affine, {"linearity", "matrix", "vmap"}),
    (WrongMatrix, {"matrix", "diagonal"}),
    (WrongTranspose, {"transpose", "adjoint"}),
    (WrongDtype, {"structures"}),
    (WrongShape, {"structures"}),
    (FalseClaim, {"tags"}),
    (DropsImaginary, {"linearity"}),
    (NotDifferentiable, {"jvp", "vjp", "linear_transpose"}),
    (WrongDiagonal, {"diagonal"}),
    (ManyLines, {"printing"}),
]


@pytest.mark.parametrize(("kind", "laws"), SPOILT, ids=[k.__name__ for k, _ in SPOILT])
def test_what_is_wrong_is_found(kind, laws):
    with pytest.raises(AssertionError) as caught:
        _laws(kind).check()
    failed = {line.split(",")[0] for line in str(caught.value).splitlines()}
    assert laws <= failed
    assert kind.__name__ in str(caught.value) or kind is ManyLines


def test_real_operator_that_drops_imaginary_parts():
    with pytest.raises(AssertionError, match="promotion, float64: .*mv of complex64"):
        _laws(DropsImaginary, "float64").check()


def test_wrong_expectation():
    laws = _laws(Right)
    type(laws).matrix = lambda self, operator: 2 * operator.matrix
    with pytest.raises(AssertionError, match="against `matrix` is off by"):
        laws.check()


def test_needs_a_factory():
    with pytest.raises(AssertionError, match="structures, float64"):
        OperatorLaws().check()


def test_works_without_pytest(run_program):
    run_program(
        """
        import sys
        sys.modules["pytest"] = None  # importing it is an error
        import jax, lx_operators as lx
        from lx_operators.testing import OperatorLaws

        class Laws(OperatorLaws):
            dtypes = ("float32", "float64")
            seen = []

            def make(self, dtype, key):
                self.seen.append(dtype)
                return lx.MatrixLinearOperator(jax.random.normal(key, (2, 2), dtype))

        Laws().check()
        assert set(Laws.seen) == {"float32"}  # x64 is off
        """
    )
