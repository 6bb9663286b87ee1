"""The laws of linear operators, as a test suite that any operator type can inherit.

Define a factory; pytest does the rest.

```python
from lx_operators.testing import OperatorLaws

class TestCirculant(OperatorLaws):
    def make(self, dtype, key):
        return Circulant(jax.random.normal(key, (4,), dtype))
```

Every law runs for every dtype. Without pytest, `OperatorLaws.check()` runs them all.
"""

from ._laws import OperatorLaws

__all__ = ["OperatorLaws"]
