"""What the floors above build on, beyond the public names."""

from ._auto import chosen
from ._slogdet import slogdet_of

__all__ = ["chosen", "slogdet_of"]
