"""What every test has: float64 by default, strict promotion of dtypes and ranks,
executables dropped before they fill the memory, and a core a worker of pytest-xdist.

Promotion is set by environment variables as well, so that programs that tests start
inherit it. What is set from outside stays as it is: `hatch run modes` uses that.

XLA makes a pool of as many threads as it may use cores. A batched LAPACK call that runs
in one of them waits for others of the same pool (`jax::ParallelBatchMap`), and two such
calls at once can deadlock; so can Fourier transforms. With one thread this cannot
happen, nor do workers take each other's cores.
"""

import functools
import gc
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np
import pytest

if "JAX_ENABLE_X64" not in os.environ:
    jax.config.update("jax_enable_x64", True)
for setting, value in {
    "jax_numpy_dtype_promotion": "strict",
    "jax_numpy_rank_promotion": "raise",
}.items():
    value = os.environ.setdefault(setting.upper(), value)
    jax.config.update(setting, value)

# Tracing makes many objects that live for long. By default Python looks for unreachable
# ones at every 700th: a tenth of the time that a trace takes.
gc.set_threshold(50_000, 10, 10)

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")  # gw0, gw1, …
if WORKER and hasattr(os, "sched_setaffinity"):
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(WORKER[2:]) % len(cores)]})


@pytest.fixture(autouse=True)
def _standard_promotion(request):
    """JAX's own rules of promotion, for tests marked `standard_promotion`."""
    if request.node.get_closest_marker("standard_promotion") is None:
        yield
    else:
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            yield


@pytest.fixture(autouse=True, scope="module")
def _bounded_caches():
    """Executables stay in memory until dropped. They serve later files, which saves a
    quarter of the compilations in tests/operators, but a whole suite does not fit."""
    yield
    if _resident() > 1:
        jax.clear_caches()
        gc.collect()


def _resident():
    """The memory of this process, over what a worker may have: 3 GB, or a third of its
    share of the machine's. Infinite where it is unknown."""
    try:
        own = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return math.inf
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    share = os.sysconf("SC_PHYS_PAGES") / (3 * workers)
    return own / min(share, 3e9 / os.sysconf("SC_PAGE_SIZE"))


# How programs are compiled

# Most tests run a program once: compiling it takes most of their time. With these flags
# it takes a third: LLVM optimises nothing, and the older of XLA's two generators writes
# the code of fused operations. Results differ by roundings.
QUICKLY = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"

# What is measured here is what users get: accuracy, kernels, memory.
FOR_USE = (
    "tests/gallery/",
    "tests/faults/",
    "tests/autodiff/test_costs.py",
    "tests/solvers/krylov/test_kernels.py",
    # where roundings decide: a determinant that is zero or not, steps of two methods
    "tests/solvers/direct/test_singular_determinant.py",
    "tests/solvers/krylov/test_symmlq.py",
)


def pytest_configure(config):
    if config.getoption("--compiled") != "quickly":
        return
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {QUICKLY}"
    if not WORKER and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        compile_once(config)


def compile_once(config):
    """Programs that are the same in several tests are compiled once: a fifth of the
    time of a single worker, and more where workers and what they start share them."""
    folder = tempfile.TemporaryDirectory()
    config.add_cleanup(folder.cleanup)
    for setting, value in {
        "jax_compilation_cache_dir": folder.name,
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }.items():
        os.environ[setting.upper()] = str(value)  # for workers
        config.add_cleanup(functools.partial(os.environ.pop, setting.upper()))
        jax.config.update(setting, value)  # for this process, if there are none


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_cmdline_main(config):
    """After the tests that are compiled quickly, those that are not, in new processes:
    XLA reads its flags once."""
    flags = os.environ.get("XLA_FLAGS")
    status = yield
    if WORKER or config.getoption("--compiled") != "quickly" or status not in (0, 1, 5):
        return status
    if config.option.collectonly:
        return status
    os.environ.pop("XLA_FLAGS")
    if flags is not None:
        os.environ["XLA_FLAGS"] = flags
    command = [sys.executable, "-m", "pytest", *config.invocation_params.args]
    rest = subprocess.run([*command, "--compiled=for-use"], check=False).returncode
    nothing = pytest.ExitCode.NO_TESTS_COLLECTED
    return max((s for s in (status, rest) if s != nothing), default=nothing)


# Dtypes

REST = ("float64", "complex64")
SMOKE = ("test_matrix", "test_solution")  # laws that run in every dtype


def pytest_addoption(parser):
    parser.addoption(
        "--compiled",
        choices=("quickly", "for-use"),
        help="compile quickly, and start another run for tests of what users get; or "
        "only that other run; by default all tests as users compile",
    )
    parser.addoption(
        "--all-dtypes",
        action="store_true",
        help="all tests in all dtypes, not only in the narrowest and the widest",
    )
    parser.addoption(
        "--all-members",
        action="store_true",
        help="tests of modes run every operator and solver, not one of each family",
    )
    parser.addoption(
        "--laws",
        action="store_true",
        help="only classes that inherit the laws of operators or of solvers",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """A test that runs in float32 and complex128 is left out in the dtypes between
    them, unless it is one of `SMOKE`. And one worker runs the tests of a file: what one
    compiles serves the next."""
    left_out = set()
    if config.getoption("--laws"):
        left_out |= {item for item in items if not _is_law(item.cls)}
    if not config.getoption("--all-dtypes"):
        left_out |= _between(items)
    if compiled := config.getoption("--compiled"):
        for_use = {item for item in items if item.nodeid.startswith(FOR_USE)}
        left_out |= for_use if compiled == "quickly" else set(items) - for_use
    items[:] = [item for item in items if item not in left_out]
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            file = item.nodeid.partition("::")[0]
            group = file.removeprefix("tests/").removesuffix(".py")
            item.add_marker(pytest.mark.xdist_group(group))
    config.hook.pytest_deselected(items=list(left_out))


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc):
    """While x64 is off, laws run in the narrower dtypes."""
    if _is_law(metafunc.cls) and not jax.config.jax_enable_x64:
        dtypes = metafunc.cls.dtypes
        narrow = {"float64": "float32", "complex128": "complex64"}
        metafunc.cls.dtypes = tuple(dict.fromkeys(narrow.get(d, d) for d in dtypes))


def _is_law(cls):
    laws = {"OperatorLaws", "PreconditionerLaws", "SolverLaws"}
    return cls is not None and not laws.isdisjoint(c.__name__ for c in cls.__mro__)


def _between(items):
    """Tests in a dtype between the narrowest and the widest that they run in."""
    dtypes = {}
    for item in items:
        if _dtype(item):
            dtypes.setdefault(_test(item), set()).add(_dtype(item))
    return {
        item
        for item in items
        if _dtype(item) in REST
        and item.originalname not in SMOKE
        and {"float32", "complex128"} <= dtypes[_test(item)]
    }


def _dtype(item):
    """The name of the dtype that a test is run in, if it is given one."""
    params = item.callspec.params if hasattr(item, "callspec") else {}
    return np.dtype(params["dtype"]).name if "dtype" in params else None


def _test(item):
    """The test and its parameters other than the dtype."""
    params = item.callspec.params
    names = sorted(params.keys() - {"dtype"})
    others = tuple((name, id(params[name])) for name in names)
    return item.parent.nodeid, item.originalname, others


def pytest_report_header(config):
    """Who starts the whole suite is told how long it takes."""
    lines = [f"tests/faults: FAULTS_SEED={os.environ.get('FAULTS_SEED', '0')}"]
    if not config.option.file_or_dir and not config.option.keyword:
        lines += [
            "the whole suite: about half an hour on two cores",
            "a part of it: hatch run test tests/operators -k diagonal",
        ]
    return lines
