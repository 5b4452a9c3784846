"""The benchmarks of a GPU, as far as a CPU with emulated graphs goes."""

import contextlib
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from mtt_brian.snn.ops import choice
from tests import emulated_graphs

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)


def test_every_kind_has_its_costs_before_the_next_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    import training

    emulated_graphs.install(monkeypatch)
    monkeypatch.setattr(choice, "LOOPS", choice.PLAIN)
    allocated = iter([100, 300, 1_000_100, 1_000_400, 0, 5, 0, 5])
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    for name in ("memory_allocated", "max_memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, lambda: next(allocated))
    cell, made = training.Cell, []

    def counted(*arguments: Any) -> Any:
        made.append(arguments[1:3])
        return cell(*arguments)

    monkeypatch.setattr(training, "Cell", counted)
    network = training.Network("nmnist_3c1fc", (2, 12, 12), 0.25, 4)
    found = training.costs_on_gpu(network, "cpu", ["ours", "graph"], rounds=2, limit=0)
    kind, costs = next(found)
    assert kind == "ours"
    assert made == [("ours", "sdt"), ("ours", "mtt")]
    assert costs["sdt"].megabytes == pytest.approx(200e-6)
    assert costs["mtt"].megabytes == pytest.approx(300e-6)
    assert 0 < costs["sdt"].seconds < 60
    monkeypatch.setattr(training, "METHODS", ("sdt",))  # that of mixed time steps needs Triton
    kind, costs = next(found)
    assert kind == "graph"
    assert costs["sdt"].megabytes == pytest.approx(5e-6)


def test_the_rows_and_those_that_can_end_the_process_are_the_last() -> None:
    import epoch

    import training

    kinds = training.kinds("cuda")
    assert [kind for kind in kinds if "graph" in kind] == ["graph, amp"] == list(kinds[-1:])
    assert kinds[:2] == ("ours", "torch")
    for graph in (True, False):
        given = ["--device", "cuda", "--methods", "mtt", "sdt", *["--cuda-graph"] * graph]
        made = list(epoch.configurations(epoch.parser().parse_args(given)))
        assert {config.cuda_graph for config in made} == {graph}
        rows = [(config.method, config.frames_on) for config in made]
        assert rows == [(method, where) for method in ("mtt", "sdt") for where in ("device", "host")]


def test_the_sections_fit_six_minutes_and_end_at_their_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    import gpu

    assert sum(section.limit for section in gpu.SECTIONS.values()) <= 360
    for name, section in gpu.SECTIONS.items():
        assert f"| {name} |" in gpu.__doc__
        assert f"| {section.limit:.0f} |" in gpu.__doc__
    monkeypatch.setattr(gpu.sys, "executable", "sh")
    monkeypatch.setattr(gpu, "__file__", "-c")
    printed = threading.Event()

    class Timer(threading.Timer):
        """One whose time is over when the first line is there, however slow the machine is."""

        def run(self) -> None:
            assert self.interval == 0.5
            printed.wait()
            self.function(*self.args)

    begin = time.perf_counter()
    with monkeypatch.context() as context:
        context.setattr(gpu.threading, "Timer", Timer)
        with contextlib.closing(gpu.run_section("exact", 0.5, ["echo row; sleep 600"])) as lines:
            assert next(lines) == "row"
            printed.set()
            assert list(lines) == ["\nexact: stopped at its time limit of 0 s"]
    assert time.perf_counter() - begin < 600
    row, failed = gpu.run_section("exact", 3600, ["echo row; exit 3"])
    assert row == "row"
    assert failed.startswith("\nexact: failed with exit status 3")
