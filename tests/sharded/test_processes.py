"""The same program on one process and on four, on this machine."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

PROGRAM = Path(__file__).parent / "processes" / "many.py"
pytestmark = pytest.mark.xdist_group("processes")


def started(part: str, folder: Path, devices: int, count: int):
    """The processes, and the files of what they say."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        address = f"localhost:{probe.getsockname()[1]}"
    files = [folder / f"{part}{i}of{count}.log" for i in range(count)]
    processes = []
    for i, file in enumerate(files):
        arguments = [part, str(folder), *map(str, (devices, count, i)), address]
        with file.open("wb") as out:
            processes.append(
                subprocess.Popen(
                    [sys.executable, str(PROGRAM), *arguments], stdout=out, stderr=out
                )
            )
    return processes, files


def finish(processes, files):
    try:
        for process, file in zip(processes, files):
            assert process.wait(timeout=300) == 0, file.read_text()
    finally:
        for process in processes:
            process.kill()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What one process with eight devices, and four with two each, have written."""
    folder = tmp_path_factory.mktemp("processes")
    one, many = (started("solve", folder, 8, count) for count in (1, 4))
    finish(*one)
    finish(*many)
    return folder


def test_same_iterates(folder):
    """Steps, residuals, iterates and gradients, to rounding."""
    one, four = (dict(np.load(folder / f"solve{count}.npz")) for count in (1, 4))
    assert one.keys() == four.keys()
    for name, want in one.items():
        atol = 1e-12 * np.max(np.abs(want))
        np.testing.assert_allclose(four[name], want, rtol=0, atol=atol, err_msg=name)
    assert one["Schwarz steps"] > 10


def test_progress(folder):
    """Shown once, on process 0."""
    assert [file.name for file in folder.glob("bar4of*")] == ["bar4of0"]


def test_resumed(folder):
    """What four processes saved is continued by one."""
    finish(*started("resume", folder, 8, 1))
    resumed = np.load(folder / "resumed.npz")
    parts = {}
    for file in folder.glob("x1of0.npz"):
        parts |= dict(np.load(file).items())
    whole = np.concatenate([parts[key] for key in sorted(parts, key=int)])
    np.testing.assert_allclose(resumed["x"], whole, rtol=1e-12)
    assert resumed["after"] < 1e-3 * resumed["before"]


def test_different_data(tmp_path):
    """Processes that disagree about the system all raise."""
    finish(*started("differ", tmp_path, 4, 2))


def test_death(tmp_path):
    """One process is killed in the middle of a solve: the others end, and say why."""
    processes, files = started("die", tmp_path, 3, 3)
    try:
        end = time.monotonic() + 120
        while len(list(tmp_path.glob("running*"))) < 3:
            assert time.monotonic() < end, [file.read_text() for file in files]
            time.sleep(0.1)
        processes[2].kill()
        killed = time.monotonic()
        for process in processes[:2]:
            assert process.wait(timeout=60) != 0
        print(f"noticed after {time.monotonic() - killed:.1f} s")
        for file in files[:2]:
            said = file.read_text().lower()
            assert "another task died" in said or "gloo" in said, said
    finally:
        for process in processes:
            process.kill()
