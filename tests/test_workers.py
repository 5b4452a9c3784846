"""Worker processes compute with one thread each, whatever the environment says."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from mtt_brian import workers
from mtt_brian.experiments import dask_backend
from mtt_brian.workers import in_workers


def report(number: int) -> dict[str, Any]:
    """The threads of the libraries in this process, after their first use."""
    import numba
    import numpy as np
    import scipy.linalg
    import torch
    from threadpoolctl import threadpool_info

    scipy.linalg.lu(np.ones((50, 50)) @ np.ones((50, 50)))
    pools = {f"{pool['user_api']} {pool['filepath']}": pool["num_threads"] for pool in threadpool_info()}
    return {"pools": pools, "numba": numba.get_num_threads(), "torch": torch.get_num_threads(), "pid": os.getpid()}


def check(reports: list[dict[str, Any]]) -> None:
    for each in reports:
        assert each["pid"] != os.getpid()
        assert each["numba"] == each["torch"] == 1
        assert {name.split()[0] for name in each["pools"]} == {"blas", "openmp"}
        assert set(each["pools"].values()) == {1}, each["pools"]


@pytest.fixture
def many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that asks for more threads."""
    pytest.importorskip("threadpoolctl", reason="threadpoolctl reports the threads")
    for name in workers.ONE_THREAD:
        monkeypatch.setenv(name, "3")


def test_processes_of_joblib_have_one_thread(many_threads: None) -> None:
    pytest.importorskip("torch")
    check(list(in_workers(report, range(4), workers=2)))
    assert os.environ["OMP_NUM_THREADS"] == "3", "as it was"


@pytest.mark.slow
def test_processes_of_dask_have_one_thread(many_threads: None) -> None:
    distributed = pytest.importorskip("distributed", reason="distributed is not installed (extra [dask])")
    with dask_backend.local_cluster(most=1) as cluster, distributed.Client(cluster, set_as_default=False) as client:
        check(client.gather(client.map(report, range(2))))
    assert os.environ["OMP_NUM_THREADS"] == "3", "as it was"


def test_items_keep_their_order_and_errors_their_type() -> None:
    assert list(in_workers(str, range(7), workers=3)) == list("0123456")
    assert list(in_workers(str, range(3), workers=0)) == list("012")
    assert list(in_workers(str, [], workers=2)) == []
    with pytest.raises(ZeroDivisionError):
        list(in_workers((1).__floordiv__, [1, 0], workers=2))


@pytest.mark.parametrize(("items", "workers"), [(1, 2), (3, 1), (3, 0)])
def test_ctrl_c_still_ends_a_process_without_workers(items: int, workers: int) -> None:
    before = signal.getsignal(signal.SIGINT)
    assert set(in_workers(pid, range(items), workers)) == {os.getpid()}
    assert signal.getsignal(signal.SIGINT) is before


def pid(number: int) -> int:
    return os.getpid()


@pytest.mark.parametrize("before", [None, "5"])
def test_the_environment_is_restored(before: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if before is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", before)
    with workers.one_thread_in_new_processes():
        assert os.environ["OMP_NUM_THREADS"] == "1"
    assert os.environ.get("OMP_NUM_THREADS") == before
