"""The plan of an evaluation: what is sent to workers, how it is divided, and what results are bound to."""

import dataclasses
import logging
import pickle

import numpy as np
import pytest

pytest.importorskip("torch")

from mtt_brian import events, export, models
from mtt_brian.experiments import evaluation
from mtt_brian.experiments.run_folder import Run
from mtt_brian.machine import batch_size
from mtt_brian.translate import read_nir


def read(identifier):
    """A function that can be pickled, as those of the data sets."""
    return events.make_recording([1, 2], [3, 33], [4, 33], [0, 1])


def recordings(number):
    return events.Recordings(
        name="two",
        title="Two events",
        split="test",
        classes=[str(k) for k in range(10)],
        sensor_size=(2, 34, 34),
        duration_us=1000,
        ids=[str(k) for k in range(number)],
        labels=np.arange(number) % 10,
        read=read,
    )


@pytest.fixture
def runs(tmp_path):
    folder = tmp_path / "net"
    folder.mkdir()
    export.write(folder / "model.nir", export.to_nir(models.nmnist_3c1fc(), time_steps=4, duration=0.001))
    return {"net": Run("net", folder, {"method": "mtt", "dataset": "two", "time_steps": 4})}


def plan(runs, number=7, **changes):
    circuits = {name: read_nir(run.model) for name, run in runs.items()}
    return evaluation.plan_evaluation(runs, circuits, recordings(number), **{"time_steps": [1, 4], **changes})


def test_downsampled_recordings_can_be_sent_to_another_process():
    coarse = events.at_resolution(recordings(3), 17)
    again = pickle.loads(pickle.dumps(coarse))
    assert again[0].tolist() == coarse[0].tolist()
    assert again[0]["x"].tolist() == [1, 16]


def test_a_task_is_equal_to_its_copy_in_another_process(runs):
    task = plan(runs).shards[0].task
    again = pickle.loads(pickle.dumps(task))
    assert again == task
    assert hash(again) == hash(task)
    assert dataclasses.replace(task, digest="other") != task
    assert (task.time_steps, task.other_time_steps) == (4, (1,))


def test_shards_hold_every_recording_once_in_order(runs):
    shards = plan(runs, shard_size=3).shards
    assert [shard.recordings.ids for shard in shards] == [["0", "1", "2"], ["3", "4", "5"], ["6"]]
    assert [shard.key for shard in shards] == [("net", 1), ("net", 2), ("net", 3)]
    assert str(shards[1]) == "shard 2 of 3 of net (two: 3 .. 5)"


@pytest.mark.parametrize(("numbers", "size"), [(1, 50), (100, 10), (999, 1), (5000, 1), (0, 50)])
def test_a_batch_is_limited_by_its_numbers(numbers, size):
    assert batch_size(numbers, budget=1000) == size


@pytest.mark.parametrize(
    "changes", [{"time_steps": [2]}, {"order": "sum"}, {"shard_size": 2}, {"number": 6}, {"data_root": "/elsewhere"}]
)
def test_results_are_bound_to_all_that_they_depend_on(changes, runs):
    assert plan(runs).settings() == plan(runs).settings()
    assert plan(runs, **changes).settings() != plan(runs).settings()


class TestOrders:
    def test_the_requested_ones(self, runs):
        assert plan(runs, order="fifo").shards[0].task.orders == ("fifo",)
        assert plan(runs, order="both").shards[0].task.orders == ("sum", "fifo")
        assert plan(runs).shards[0].task.orders == ("sum", "fifo")
        assert plan(runs, engine="brian2").shards[0].task.orders == ("sum",)

    def test_a_network_that_cannot_run_under_one_is_logged(self, runs, caplog):
        circuit = read_nir(runs["net"].model)
        first = circuit.populations[0]
        biased = dataclasses.replace(first, rule=dataclasses.replace(first.rule, bias=1.0))
        circuit = dataclasses.replace(circuit, populations=(biased, *circuit.populations[1:]))
        with caplog.at_level(logging.WARNING):
            assert evaluation.choose_orders("exact", None, {"net": circuit}) == ("sum",)
        assert caplog.messages[0].startswith("net: ")
        assert caplog.messages[0].endswith("Reporting sum only")
