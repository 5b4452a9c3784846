"""Shards on a real Dask cluster of two processes: the serial report, whatever happens to the workers."""

import json
import os
import re
import shutil
import signal
import sys
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from mtt_brian import export, snn
from mtt_brian.cli import evaluate
from mtt_brian.errors import InputError
from mtt_brian.experiments import dask_backend, evaluation, report_files
from mtt_brian.neuron import IF
from tests.engines import quick_compiler
from tests.test_event_driven_eval import Counted, without_times, write_recordings

dask = pytest.importorskip("dask", reason="dask is not installed (extra [dask])")
distributed = pytest.importorskip("distributed", reason="distributed is not installed (extra [dask])")

#: Of four shards with two recordings each.
OPTIONS = "--time-steps 1 3 --shard 2"
#: The first recording of each.
FIRST = [f"Test/{label}/{number:05d}.bin" for label in (3, 7) for number in (0, 2)]
#: Whichever shard is computed first; Dask takes them in any order.
ANY = "any"


class Watch(distributed.WorkerPlugin):
    """Notes the first recording of every shard that a worker has computed; at one of them the worker dies halfway.

    Args:
        log: file with a line per shard.
        fatal: first recording of the shard at which workers die, if any; or `ANY`, for the one that is computed first.
        deaths: so many of them.
        first: so many shards must have been computed before.
        behind: so many shards must wait for the worker that dies first.
    """

    name = "watch"

    def __init__(self, log: Path, fatal: str = "", deaths: int = 1, first: int = 0, behind: int = 0) -> None:
        self.log, self.fatal, self.deaths, self.first, self.behind = log, fatal, deaths, first, behind

    def setup(self, worker):
        from mtt_brian.experiments.evaluation import Evaluator

        self.evaluate = evaluate = Evaluator.evaluate
        deaths = self.log.with_suffix(".deaths")

        def die(name, runs):
            while (
                len(computed(self.log)) < self.first
                or (not computed(deaths) and len(worker.state.ready) < self.behind)
                or any(isinstance(part, dict) for part in list(worker.data.values()))  # the client does not have it yet
            ):
                time.sleep(0.01)
            with deaths.open("a") as file:
                file.write(f"{name}\n")
            os.kill(os.getpid(), signal.SIGKILL)

        def watched(evaluator, recordings, progress):
            name = recordings.ids[0]
            died = computed(deaths)
            fatal = (died or [name])[0] if self.fatal == ANY else self.fatal
            dies = name == fatal and len(died) < self.deaths
            part = evaluate(evaluator, recordings, partial(die, name) if dies else progress)
            with self.log.open("a") as file:
                file.write(f"{name}\n")
            return part

        Evaluator.evaluate = watched

    def teardown(self, worker):
        from mtt_brian.experiments.evaluation import Evaluator

        Evaluator.evaluate = self.evaluate


def computed(log):
    return log.read_text().split() if log.exists() else []


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small network with random weights; it need not be right to be the same everywhere."""
    folder = tmp_path_factory.mktemp("dask") / "net"
    folder.mkdir()
    write_recordings(folder.parent / "data")
    torch.manual_seed(0)
    layers = {
        "conv": nn.Conv2d(2, 4, 3, stride=4, bias=False),
        "spikes": snn.Spiking(IF()),
        "flatten": nn.Flatten(),
        "readout": nn.Linear(256, 10, bias=False),
    }
    graph = export.to_nir(snn.Staged(layers, (2, 34, 34)), time_steps=4, duration=0.3)
    export.write(folder / "model.nir", graph)
    config = {"method": "mtt", "dataset": "nmnist", "data_root": str(folder.parent / "data"), "time_steps": 4}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module", autouse=True)
def _without_figures():
    """They take longer than all the rest."""
    with pytest.MonkeyPatch.context() as study:
        for name in ("plot_accuracies", "plot_example"):
            study.setattr(report_files, name, lambda *arguments: None)
        yield


@pytest.fixture(scope="module")
def arguments(run):
    """A function of more options."""
    return lambda *more: [str(run), *OPTIONS.split(), *map(str, more)]


@pytest.fixture(scope="module")
def serial(run, arguments):
    """The report of a single process."""
    evaluate.main(arguments("--out", run.parent / "serial"))
    report = json.loads((run.parent / "serial" / "report.json").read_text())
    assert all(n > 0 for n in report["runs"][0]["event_driven"]["spikes_per_recording"].values())
    return without_times(run.parent / "serial")


@pytest.fixture(scope="module")
def workers():
    """What ``--dask`` starts on a machine with two cores."""
    with pytest.MonkeyPatch.context() as machine:
        machine.setattr("mtt_brian.machine.cores", lambda: 2)
        with dask_backend.local_cluster(most=9) as processes:
            yield processes


@pytest.fixture
def watch(workers):
    """Puts a `Watch` in the place of the last one on all workers, those that are yet to come included."""
    with distributed.Client(workers, set_as_default=False) as client:
        yield client.register_plugin


def test_the_report_of_a_worker_in_this_process_is_the_serial_one(arguments, serial, tmp_path, capsys):
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None, protocol="tcp"
    ) as one:
        evaluate.main(arguments("--dask", one.scheduler_address, "--out", tmp_path / "out"))
    assert without_times(tmp_path / "out") == serial
    assert "4 of 4 shards" in capsys.readouterr().err


@pytest.mark.slow
def test_a_process_of_this_machine_may_be_silent_for_as_long_as_it_likes(workers):
    """After Ctrl-Z, five minutes and fg Dask would end all processes. A test of it would take those minutes."""
    assert workers.scheduler.worker_ttl is None


@pytest.mark.slow
def test_the_report_is_the_serial_one(workers, arguments, serial, tmp_path, watch, capsys):
    watch(Watch(tmp_path / "log"))
    evaluate.main(arguments("--dask", workers.scheduler_address, "--out", tmp_path / "out"))
    assert without_times(tmp_path / "out") == serial
    assert sorted(computed(tmp_path / "log")) == FIRST
    assert "4 of 4 shards" in capsys.readouterr().err
    assert not (tmp_path / "out" / "shards.jsonl").exists()


@pytest.mark.slow
def test_a_killed_worker_costs_its_shard_only(workers, arguments, serial, tmp_path, watch):
    watch(Watch(tmp_path / "log", fatal=FIRST[3], first=3))
    evaluate.main(arguments("--dask", workers.scheduler_address, "--out", tmp_path / "out"))
    assert len(computed(tmp_path / "log.deaths")) == 1
    assert sorted(computed(tmp_path / "log")) == FIRST  # not one twice, although some were computed by the dead worker
    assert without_times(tmp_path / "out") == serial


@pytest.mark.slow
def test_a_restart_computes_what_is_missing(workers, arguments, serial, tmp_path, watch, monkeypatch):
    stopped = Counted(monkeypatch)
    stopped.stop, stopped.reason = 3, InputError("stopped")
    with pytest.raises(InputError, match="stopped"):
        evaluate.main(arguments("--out", tmp_path / "out"))
    watch(Watch(tmp_path / "log"))
    evaluate.main(arguments("--dask", workers.scheduler_address, "--out", tmp_path / "out"))
    assert computed(tmp_path / "log") == FIRST[3:]
    assert without_times(tmp_path / "out") == serial


@pytest.mark.slow
def test_a_shard_that_kills_every_worker_costs_no_other(arguments, serial, tmp_path, monkeypatch, caplog):
    # Dask would close the nanny of a process that ends while its predecessor is looked for; here at once.
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "0s"}),
        dask_backend.local_cluster(most=1) as worker,
        distributed.Client(worker, set_as_default=False) as client,
    ):
        worker.scheduler.allowed_failures = 0
        client.register_plugin(Watch(tmp_path / "log", fatal=ANY, deaths=2, behind=1))
        with pytest.raises(InputError) as error:
            evaluate.main(arguments("--dask", worker.scheduler_address, "--out", tmp_path / "out"))
    with_others, alone = computed(tmp_path / "log.deaths")
    assert with_others == alone
    number = FIRST.index(alone) + 1
    message = rf"shard {number} of 4 of net \(nmnist: {alone} .*: all workers died that computed it alone \(1, .*"
    assert re.fullmatch(message, str(error.value))
    assert sorted(computed(tmp_path / "log")) == [name for name in FIRST if name != alone]
    assert any(message.startswith("3 of 4 shards are kept") for message in caplog.messages)
    rest = Counted(monkeypatch)
    evaluate.main(arguments("--out", tmp_path / "out"))
    assert len(rest.shards) == 1
    assert without_times(tmp_path / "out") == serial


def test_a_cluster_without_workers_is_announced_and_continues_with_a_new_one(
    arguments, serial, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(dask_backend, "CHECK", 0.05)
    compute = dask_backend._compute

    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None, protocol="tcp"
    ) as cluster:

        def after_the_last_worker_has_ended(client, shards, progress):
            cluster.scale(0)
            waited_for("no worker is left; waits for one (a new one: dask worker tcp://")
            cluster.scale(1)
            return compute(client, shards, progress)

        def waited_for(words):
            while words not in caplog.text:
                time.sleep(0.01)

        monkeypatch.setattr(dask_backend, "_compute", after_the_last_worker_has_ended)
        evaluate.main(arguments("--dask", cluster.scheduler_address, "--out", tmp_path / "out"))
    assert without_times(tmp_path / "out") == serial
    assert caplog.text.count("no worker is left") == 1


@pytest.fixture
def ask(workers, arguments, tmp_path):
    """Evaluates on the cluster."""
    return lambda *more: evaluate.main(arguments("--dask", workers.scheduler_address, "--out", tmp_path / "out", *more))


class TestBadInput:
    @pytest.mark.slow
    def test_a_damaged_recording_gives_the_message_of_a_serial_run(self, arguments, ask, tmp_path):
        (tmp_path / "Test" / "3").mkdir(parents=True)
        (tmp_path / "Test" / "3" / "00001.bin").write_bytes(b"four")
        with pytest.raises(InputError, match=r"00001\.bin") as alone:
            evaluate.main(arguments("--data-root", tmp_path, "--out", tmp_path / "alone"))
        with pytest.raises(InputError) as together:
            ask("--data-root", tmp_path)
        assert str(together.value) == str(alone.value)

    @pytest.mark.slow
    def test_data_that_a_worker_does_not_have(self, arguments, workers, tmp_path, monkeypatch):
        write_recordings(tmp_path / "data")
        started = dask_backend.workers

        @contextmanager
        def after_the_data_are_gone(*given):
            with started(*given) as compute:
                shutil.rmtree(tmp_path / "data")
                yield compute

        monkeypatch.setattr(dask_backend, "workers", after_the_data_are_gone)
        with pytest.raises(InputError, match=r"Test/3/0000\d\.bin"):
            evaluate.main(
                arguments(
                    "--data-root", tmp_path / "data", "--dask", workers.scheduler_address, "--out", tmp_path / "o"
                )
            )

    @pytest.mark.slow
    def test_other_versions(self, ask, monkeypatch):
        other = {**evaluation.result_versions(), "numpy": "0.1"}
        monkeypatch.setattr(evaluation.EvaluationTask, "versions", lambda task: other)
        with pytest.raises(InputError, match=r"^worker tcp://\S+ has numpy [\d.]+ instead of 0\.1; every worker"):
            ask()

    @pytest.mark.slow
    def test_a_worker_without_the_package(self, ask, workers):
        def hide():
            sys.modules["hidden"], sys.modules["mtt_brian"] = sys.modules.get("mtt_brian"), None

        def show():
            del sys.modules["mtt_brian"]
            if package := sys.modules.pop("hidden"):
                sys.modules["mtt_brian"] = package

        with distributed.Client(workers, set_as_default=False) as client:
            client.run(hide)
            try:
                with pytest.raises(InputError, match=r"^worker tcp://\S+: .*mtt_brian.*; every worker"):
                    ask()
            finally:
                client.run(show)

    def test_several_threads_in_a_process(self, arguments, tmp_path):
        with (
            distributed.LocalCluster(
                n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None, protocol="tcp"
            ) as threads,
            pytest.raises(InputError, match=r"^worker tcp://\S+ computes 2 tasks at a time .*--nthreads 1"),
        ):
            evaluate.main(arguments("--dask", threads.scheduler_address, "--out", tmp_path))

    @pytest.mark.slow
    def test_no_worker(self):
        with (
            distributed.LocalCluster(n_workers=0, dashboard_address=":0") as nobody,
            pytest.raises(InputError, match=r"no worker in 0.5 s; start some with: dask worker tcp://"),
            dask_backend.workers(nobody.scheduler_address, 1, timeout=0.5),
        ):
            pytest.fail("there is no worker")

    def test_no_scheduler(self):
        with (
            pytest.raises(InputError, match=r"--dask tcp://127.0.0.1:9: no scheduler replies .*dask scheduler"),
            dask_backend.workers("tcp://127.0.0.1:9", 1, timeout=0.5),
        ):
            pytest.fail("there is no scheduler")

    @pytest.mark.parametrize("address", ["runs/mtt", "host", "ftp://host:1"])
    def test_no_address(self, address, arguments, tmp_path):
        with pytest.raises(InputError, match=rf"--dask {address}: not the address of a scheduler; expected tcp://"):
            evaluate.main(arguments("--dask", address, "--out", tmp_path / "out"))
        assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["brian2", "brian2-cpp"])
def test_brian2_is_built_once_and_workers_give_the_same(engine, arguments, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("mtt_brian.machine.cores", lambda: 2)
    if engine == "brian2":  # without a compiler it runs in numpy, also in the workers: Cython would need minutes
        monkeypatch.setenv("PATH", str(tmp_path))
    else:
        monkeypatch.setenv("CXX", quick_compiler())  # the workers' too
    options = f"--engine {engine} --shard 1 --out".split()
    with caplog.at_level("INFO", logger="mtt_brian"):
        evaluate.main(arguments(*options, tmp_path / "serial"))
    assert caplog.text.count(f"{engine}: building") == 1  # of eight shards
    evaluate.main(arguments(*options, tmp_path / "dask", "--dask"))
    assert without_times(tmp_path / "dask") == without_times(tmp_path / "serial")
