"""An operator known by its products, and the pattern of its matrix."""

from .._functions import adjoint_product, conj, diagonal, linearise, materialise
from .._operator import AbstractLinearOperator
from .._properties import declared, is_own_transpose
from .._structures import is_real, structures_of
from .compression import ColouredPattern, compress


class PatternedLinearOperator(AbstractLinearOperator):
    """The same operator; `materialise` makes a sparse one of it. What a Jacobian with a
    pattern becomes when it is transposed, linearised or conjugated.

    Args:
        operator: an `AbstractLinearOperator`.
        sparsity: the pattern of its matrix, coloured.
    """

    operator: AbstractLinearOperator
    sparsity: ColouredPattern

    def mv(self, vector):
        return self.operator.mv(vector)

    def as_matrix(self):
        return compress(self).as_matrix()

    def transpose(self):
        if is_own_transpose(self):
            return self
        return PatternedLinearOperator(self.operator.transpose(), self.sparsity.T)

    def in_structure(self):
        return self.operator.in_structure()

    def out_structure(self):
        return self.operator.out_structure()


@declared.register
def _(operator: PatternedLinearOperator):
    return declared(operator.operator)


@linearise.register
def _(operator: PatternedLinearOperator):
    inner = linearise(operator.operator)
    return PatternedLinearOperator(inner, operator.sparsity)


@materialise.register
def _(operator: PatternedLinearOperator):
    return compress(operator)


@diagonal.register
def _(operator: PatternedLinearOperator):
    return diagonal(compress(operator))


@conj.register
def _(operator: PatternedLinearOperator):
    if is_real(*structures_of(operator)):
        return operator
    return PatternedLinearOperator(conj(operator.operator), operator.sparsity)


@adjoint_product.register
def _(operator: PatternedLinearOperator):
    return adjoint_product(operator.operator)
