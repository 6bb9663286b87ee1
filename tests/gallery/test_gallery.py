"""The table of solvers and test matrices: no false success, accuracy, and the page."""

import numpy as np
import pytest
from lx_solvers.testing import backward_error

from tests.gallery import page
from tests.gallery.matrices import GALLERY, complexified, vector
from tests.gallery.table import (
    COLUMNS,
    HAS_RSLAB,
    SCALES,
    allowed,
    asked,
    false,
    solve,
)

LUCK = 0.05  # of a count: at the edge of a precision, rounding decides, by processor


def _runs():
    for name in COLUMNS:
        for dtype in COLUMNS[name].dtypes:
            mark = pytest.mark.xdist_group(f"gallery {name}")
            marks = [mark]
            if "rslab" in name:
                no = not HAS_RSLAB
                marks.append(pytest.mark.skipif(no, reason="rslab is not installed"))
            yield pytest.param(name, dtype, marks=marks, id=f"{name}-{dtype}")


@pytest.mark.parametrize(("name", "dtype"), list(_runs()))
def test_solver(name, dtype):
    """What is called solved is; by a direct solver, as well as by LAPACK; and no fewer
    systems are solved than the page says."""
    column = COLUMNS[name]
    given = asked(column, dtype)
    outcomes = solve(column, given, dtype)
    solved = [(c, o.x) for c, o in zip(given, outcomes, strict=True) if o.letter == "s"]

    wrong = {
        (case.entry.name, SCALES[case.scale]): why
        for case, x in solved
        if (why := false(case, x))
    }
    assert not wrong, "called successful"

    if column.direct:
        worse = {
            (case.entry.name, SCALES[case.scale]): (error, allowed(case))
            for case, x in solved
            if (error := backward_error(case.A, x, case.b)) > _few_roundings(case)
            and error > allowed(case)
        }
        assert not worse, "less accurate than LAPACK"

    told = page.load()[name]
    letters = [told[case.entry.name][dtype][case.scale] for case in given]
    assert "." not in letters
    assert len(solved) >= (1 - LUCK) * letters.count("s")


def _few_roundings(case):
    return 10 * np.finfo(case.A.dtype).eps


def test_page():
    """The page is what the outcomes give, and they are those of this gallery."""
    outcomes = page.load()
    assert page.PAGE.read_text() == page.render(outcomes)
    for name, column in COLUMNS.items():
        rows = {entry.name for entry in GALLERY if column.takes(entry)}
        assert set(outcomes[name]) == rows


def test_page_has_no_false_success():
    """Every outcome is a success that was checked, or a failure with a name; and the
    solvers for any rank solve everything."""
    for name, rows in page.load().items():
        letters = set("".join(text for row in rows.values() for text in row.values()))
        assert letters <= set(
            "sndumbgci." if name.startswith("Normal") else "sndumbgc."
        )
        if name in ("SVD", "PivotedQR", "Eigh"):
            assert letters <= set("s.")


# The gallery itself


def test_gallery():
    """Many matrices, none twice, of condition numbers from 1 to 1e14 and more."""
    assert len({entry.name for entry in GALLERY}) == len(GALLERY)
    assert len({entry.matrix().tobytes() for entry in GALLERY}) >= 40
    conditions = [np.linalg.cond(entry.matrix()) for entry in GALLERY]
    for power in (0, 3, 6, 10, 14):
        assert any(0.5 < c / 10.0**power < 2 for c in conditions)


@pytest.mark.parametrize("entry", GALLERY, ids=lambda entry: entry.name)
def test_entry(entry):
    """What is said of a matrix is true; its complex companion has the same singular
    values, and is Hermitian with it; a consistent vector is in the range."""
    A = entry.matrix()
    C = complexified(A)
    if "hermitian" in entry.true:
        assert np.array_equal(A, A.T) and np.array_equal(C, C.conj().T)
        values = np.linalg.eigvalsh(A)
        rounding = 100 * np.finfo(float).eps * abs(values).max()
        if entry.true & {"definite", "semidefinite"}:
            assert values[0] >= -rounding
    if "upper" in entry.true:
        assert np.array_equal(A, np.triu(A))
    if "tridiagonal" in entry.true:
        assert np.array_equal(A, np.triu(np.tril(A, 1), -1))
    sizes = np.linalg.svd(A, compute_uv=False)
    of_C = np.linalg.svd(C, compute_uv=False)
    np.testing.assert_allclose(of_C, sizes, atol=1e-12 * sizes[0], rtol=0)
    deficient = np.linalg.matrix_rank(A, tol=1e-12 * sizes[0]) < min(A.shape)
    if entry.kind.startswith(("singular", "deficient")):
        assert deficient
    b = vector(entry, A)
    projected = A @ (np.linalg.pinv(A, rcond=1e-12) @ b)
    within = np.linalg.norm(b - projected) <= 1e-9 * np.linalg.norm(b)
    if entry.kind.startswith("singular"):
        assert within == entry.consistent
