"""What tests of several files share: examples that repeat, a faster reader of files, runs that are trained once."""

import functools
import gc
import importlib.util
import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from tests import reader
from tests.browser import BROWSERS

# Of two processes side by side, each takes one core; read when torch is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Help texts and messages have this width, whatever that of the terminal.
os.environ["COLUMNS"] = "80"

# A busy machine is no fault; where CI is set every run draws the same examples.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """No garbage is sought while the tests are imported: that took a quarter of the time, for next to no memory."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests with the mark gpu need one."""
    if item.get_closest_marker("gpu") is not None and not _there_is_a_gpu():
        pytest.skip("no GPU that torch can use")


@functools.cache
def _there_is_a_gpu() -> bool:
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()


@pytest.fixture(scope="session", autouse=True)
def _files_are_read_by_forks() -> Iterator[None]:
    """A new process for every `.nir` file would take longer than most tests; see `own_process`."""
    with reader.forked():
        yield


@pytest.fixture(scope="module", autouse=True)
def _garbage_is_sought_among_new_objects() -> None:
    """What is there when a file of tests begins is left out.

    Brian2 collects garbage at every run: among the objects of all modules of the tests it took longer than most runs.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture
def own_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """`.nir` files are read as users read them."""
    reader.as_users_do(monkeypatch)


@pytest.fixture
def unoptimised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Extensions of Cython, a dozen for each network, take less than half the time to compile."""
    from mtt_brian.engines.brian2 import runtime
    from tests.engines import FLAGS

    monkeypatch.setattr(runtime, "EXACT_FLAGS", FLAGS)


@pytest.fixture(scope="session")
def three_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/ and runs/sdt-0, sdt-1 and mtt-0, that tests leave as it is.

    The recordings are in N-MNIST's layout: class 3 is seen on the left of the sensor, class 7 on the right.
    """
    from mtt_brian import mtt
    from mtt_brian.experiments import run_folder
    from tests.test_event_driven_eval import write_bin

    folder = tmp_path_factory.mktemp("three_runs")
    rng = np.random.default_rng(1)
    for split in ("Train", "Test"):
        for label, left in ((3, 4), (7, 20)):
            for number in range(4):
                t = np.sort(rng.integers(0, 300_000, 300))
                x, y, p = rng.integers(left, left + 10, 300), rng.integers(5, 29, 300), rng.integers(0, 2, 300)
                write_bin(folder / "data" / split / str(label) / f"{number:05d}.bin", t, x, y, p)
    for method, seed in (("sdt", 0), ("sdt", 1), ("mtt", 0)):
        config = mtt.TrainConfig(
            method=method, dataset="nmnist", data_root=str(folder / "data"), epochs=2, time_steps=3, seed=seed
        )
        run_folder.trained(config, run_folder.load_splits(config), folder / "runs" / f"{method}-{seed}")
    return folder


@pytest.fixture
def event_driven(monkeypatch):
    """Plain Brian2 scripts run on the device event_driven; expressions are evaluated without a compiler."""
    import brian2

    import mtt_brian.event_driven

    monkeypatch.setitem(brian2.prefs, "codegen.target", "numpy")
    brian2.start_scope()
    brian2.set_device("event_driven")
    brian2.defaultclock.dt = 0.1 * brian2.ms
    yield mtt_brian.event_driven.device
    brian2.set_device("runtime")
    brian2.defaultclock.dt = 0.1 * brian2.ms


@pytest.fixture(scope="module")
def browser():
    """Chromium or Chrome of this machine, without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.skip(f"needs a browser: none of {', '.join(BROWSERS)} is installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, timeout=0)
        yield browser
        browser.close()
