"""How many cases, and which: the same ones in every run, unless told otherwise."""

import os

from hypothesis import HealthCheck, Phase, seed, settings

SEED = int(os.environ.get("FAULTS_SEED", "0"))


def repeatable(cases: int):
    """A test by hypothesis with a fixed seed, of this many cases."""
    limits = settings(
        max_examples=cases,
        deadline=None,
        database=None,
        print_blob=False,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    return lambda test: seed(SEED)(limits(test))
