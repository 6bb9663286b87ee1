"""What the floors above build on, beyond the public names."""

from ._auto import chosen
from ._slogdet import slogdet_of
from .wrappers._doubled import residual

__all__ = ["chosen", "residual", "slogdet_of"]
