"""What we want to reach: data, read by `run.py`."""

from typing import NamedTuple


class Goal(NamedTuple):
    """For the cases that match, the ratio of ours to a column is at most `bound`."""

    cases: str
    column: str
    bound: float
    limit: str = ""
    """What stands in the way, as profiled; printed where the goal is missed."""


PEER = "lineax 0.1.1"
JAX = "JAX"
LOOP = "textbook loop"
SCIPY = "SciPy"

_DIRECT = "(LU|QR|SVD|Cholesky)"
_LOOPS = "(CG|BiCGStab|GMRES)"

GOALS = (
    Goal("^import", PEER, 0.6),
    Goal(f"^compile {_DIRECT} (value|gradient)", PEER, 0.75),
    Goal(f"^compile {_DIRECT} (value|gradient)", JAX, 1.3),
    Goal(f"^compile {_LOOPS} value", PEER, 0.75),
    Goal(f"^compile {_LOOPS} gradient", PEER, 0.6),
    Goal(f"^compile {_LOOPS} (value|gradient)", LOOP, 1.3),
    Goal(r"^compile (LSMR|Normal\(CG\)) value", PEER, 0.5),
    Goal(r"^compile (LSMR|Normal\(CG\)) gradient", PEER, 0.4),
    Goal("^compile (CG|GMRES|LSMR) hessian", PEER, 0.3),
    Goal("^run ", PEER, 1.05),
    Goal(f"^run {_DIRECT} value n=(500|2000)", JAX, 1.1),
    Goal("^eager LU", PEER, 0.4),
    Goal("^eager LU", JAX, 4.0),
    Goal("^many (LU|Cholesky)", JAX, 1.1),
    Goal("^many QR", JAX, 2.0),
    Goal("^deficient", PEER, 0.33),
    Goal("^batch LU .* n=(2|3)$", JAX, 0.25),
    Goal("^batch LU .* n=4$", JAX, 0.5),
    Goal("^batch LU .* n=(6|8)$", JAX, 0.8),
    Goal("^poisson", SCIPY, 0.7),
    Goal("^poisson", LOOP, 2.5),
)

# of all cases that begin so, the geometric mean of ours beside a column
MEANS = (Goal("^run ", PEER, 0.7),)
