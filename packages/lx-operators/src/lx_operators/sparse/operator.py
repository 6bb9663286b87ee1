"""The sparse operator with all that is known of it: importing it registers its forms
and its algebra."""

from .algebra import SparseLinearOperator as SparseLinearOperator
