"""Training settings: files, command line, errors."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtt_brian.errors import InputError
from mtt_brian.mtt import MTT, NMT, SDT, TrainConfig
from mtt_brian.mtt.config import (
    GROUPS,
    add_options,
    check_values,
    config_names,
    find_config,
    given_options,
    read_config,
)


def typed(*arguments: str) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return given_options(parser.parse_args(arguments))


def test_every_field_is_an_option() -> None:
    parser = argparse.ArgumentParser()
    add_options(parser)
    text = parser.format_help()
    assert all("--" + field.name.replace("_", "-") in text for field in fields(TrainConfig))


def test_only_given_options_are_returned() -> None:
    assert typed() == {}
    assert typed("--time-steps", "6", "--lr", "1e-2", "--lower-bound", "none") == {
        "time_steps": 6,
        "lr": 0.01,
        "lower_bound": None,
    }


def test_booleans_are_flags() -> None:
    assert typed("--skip-bad", "--no-download") == {"skip_bad": True, "download": False}


def test_a_toml_file(tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    path.write_text('method = "nmt"\nlr = 1\nlower_bound = "none"\nskip_bad = true\n')
    config = TrainConfig(**read_config(path))
    assert (config.method, config.lr, config.lower_bound, config.skip_bad) == ("nmt", 1.0, None, True)
    assert type(config.lr) is float


def test_a_resolved_config_reads_back(tmp_path: Path) -> None:
    config = TrainConfig(method="sdt", neuron="lif", tau=0.02, threads=1)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config.as_dict()))
    assert TrainConfig(**read_config(path)) == config


def test_samplers() -> None:
    numbers = {"time_steps": 8, "min_steps": 2, "samples": 5}
    assert TrainConfig(method="sdt", **numbers).sampler() == SDT(8)
    assert TrainConfig(method="nmt", **numbers).sampler() == NMT(8, 2, 5)
    assert TrainConfig(method="mtt", **numbers).sampler() == MTT(8, 2, 5)


def test_an_unknown_key_names_the_file_and_what_is_near(tmp_path: Path) -> None:
    path = tmp_path / "typo.toml"
    path.write_text("time_step = 4\n")
    with pytest.raises(InputError, match=r"typo\.toml: unknown key 'time_step'; did you mean time_steps"):
        read_config(path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 2.0}, "here: epochs must be a whole number, not 2.0"),
        ({"epochs": True}, "here: epochs must be a whole number, not True"),
        ({"epochs": "3"}, "here: epochs must be a whole number, not '3'"),
        ({"epochs": 0}, "here: epochs must be at least 1, not 0"),
        ({"epochs": "none"}, "here: epochs must be a whole number, not 'none'"),
        ({"lr": float("nan")}, "here: lr must be finite, not nan"),
        ({"validation": 1.0}, "here: validation must be below 1, not 1.0"),
        ({"skip_bad": "false"}, "here: skip_bad must be true or false, not 'false'"),
        ({"method": "xyz"}, "here: method must be one of sdt, nmt, mtt, not 'xyz'"),
        ({"data_root": 3}, "here: data_root must be a text or none, not 3"),
        ({"data_root": "a\0b"}, "here: data_root must be a text without the character 0"),
        ({"method": ["mtt"]}, "here: method must be one of sdt, nmt, mtt, not \\['mtt'\\]"),
        ({"method": {}}, "here: method must be one of sdt, nmt, mtt, not {}"),
        ({"lr": [1.0]}, "here: lr must be a number, not \\[1.0\\]"),
        ({"lr": "1"}, "here: lr must be a number, not '1'"),
        ({"lr": True}, "here: lr must be a number, not True"),
        ({"lr": 10**400}, "here: lr must be a number, not a whole number of 1329 bits"),
        ({"lr": 1e300}, r"here: lr must be at most 1000000.0, not 1e\+300"),
        ({"lr": -1e-3}, "here: lr must be at least 0, not -0.001"),
        ({"weight_decay": 1e308}, "here: weight_decay must be at most"),
        ({"clip": float("inf")}, "here: clip must be finite, not inf"),
        ({"tau": 1e300}, "here: tau must be at most"),
        ({"lower_bound": -1e300}, "here: lower_bound must be at least"),
        ({"width_multiplier": 1e300}, "here: width_multiplier must be at most 1000"),
        ({"seed": 2**64}, "here: seed must be at most 18446744073709551615, not 18446744073709551616"),
        ({"seed": -1}, "here: seed must be at least 0, not -1"),
        ({"seed": 10**5000}, "here: seed must be at most 18446744073709551615, not a whole number of 16610 bits"),
        ({"shift": 10**30}, "here: shift must be at most 32767"),
        ({"roll": 10**30}, "here: roll must be at most 32767"),
        ({"threads": 10**6}, "here: threads must be at most 1024, not 1000000"),
        ({"workers": 10**6}, "here: workers must be at most 1024, not 1000000"),
        ({"samples": 10**9}, "here: samples must be at most 100000"),
        ({"time_steps": 10**30}, "here: time_steps must be at most 100000"),
        ({"epochs": 10**9}, "here: epochs must be at most 1000000"),
    ],
)
def test_bad_values(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_values(values, "here")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"time_steps": 3, "min_steps": 4}, "min_steps = 4 must not exceed"),
        ({"keep_best": True}, "keep_best needs validation > 0"),
        ({"neuron": "lif"}, "needs either tau"),
        ({"neuron": "lif", "tau": 0.01, "decay": 0.5}, "needs either tau"),
        ({"tau": 0.01}, "'if' neither"),
    ],
)
def test_contradictions(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainConfig(**values)


def test_an_option_with_a_value_of_the_wrong_type() -> None:
    with pytest.raises(InputError, match="command line: epochs must be a whole number, not 'ten'"):
        typed("--epochs", "ten")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.yaml", "a: 1", "ends in .toml or .json"),
        ("c.toml", "a = ", "not a well-formed TOML file"),
        ("c.json", "[1]", "expected keys and values, not list"),
        ("c.json", '{"epochs": 1, "lr": 1, "epochs": 2}', "the key 'epochs' is repeated"),
        ("c.json", '{"lr": NaN}', "lr must be finite, not nan"),
        ("c.json", '{"epochs": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
        ("c.toml", "epochs = " + "[" * 10_000 + "]" * 10_000, "nested too deeply"),
        ("c.toml", "epochs = " + "[" * 400 + "]" * 400, r"epochs must be a whole number, not (\[|such a list)"),
        ("c.toml", "epochs = 0x" + "f" * 10_000, "epochs must be at most 1000000, not a whole number of 40000 bits"),
        ("c.toml", "epochs = " + "9" * 10_000, "not a well-formed TOML file"),
    ],
)
def test_files_that_are_no_configs(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(InputError, match=message) as refused:
        read_config(path)
    assert len(str(refused.value).splitlines()) == 1
    assert len(str(refused.value).removeprefix(str(path))) < 400


def test_every_number_has_a_bound() -> None:
    for field in fields(TrainConfig):
        if field.type.split()[0] in ("int", "float"):
            assert field.metadata["low"] is not None
            assert (field.metadata["most"] is None) != (field.metadata["below"] is None) or field.name == "lower_bound"


def test_a_missing_file() -> None:
    with pytest.raises(InputError, match=r"nowhere\.toml: No such file"):
        read_config("nowhere.toml")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of POSIX")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.symlink_to("/dev/zero"), "is a pipe or a device, not a file"),
        (os.mkfifo, "is a pipe or a device, not a file"),
        (os.mkdir, "is a folder, not a file"),
        (lambda path: path.write_text("#" * 1_000_001), "1,000,001 bytes, more than the 1,000,000 that are accepted"),
    ],
)
def test_what_is_no_config_file_is_not_read(make: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    make(path)
    with pytest.raises(InputError, match=rf"c\.toml: {message}"):
        read_config(path)


def test_the_help_is_in_groups_with_what_a_value_is() -> None:
    parser = argparse.ArgumentParser()
    groups = add_options(parser)
    assert tuple(groups) == GROUPS
    shown = {}
    for group in groups.values():
        for action in group._group_actions:
            shown[action.dest] = (group.title, action.metavar)
    assert shown.keys() == {item.name for item in fields(TrainConfig)}
    assert shown["data_root"] == ("data", "DIR")
    assert shown["limit"] == ("data", "N")
    assert shown["init"] == ("run", "RUN")
    assert shown["method"] == ("time steps", "{sdt,nmt,mtt}")
    assert shown["time_steps"] == ("time steps", "T")
    assert shown["momentum"] == ("optimiser", "X")
    assert not {"STR", "INT", "FLOAT"} & {str(metavar) for _, metavar in shown.values()}
    text = " ".join(parser.format_help().split())
    assert "digits, nmnist, dvsgesture, cifar10dvs, ncaltech101, shd, " in text
    assert "nmnist_3c1fc, dvsgesture_net, vgg9, vggsnn, resnet18_dvs, resnet18, resnet19, vgg14 [nmnist_3c1fc]" in text
    assert len(parser.format_usage().splitlines()) == 1


def test_settings_of_the_package_have_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = config_names()
    assert {"small/digits", "nmnist_3c1fc", "small/bias_removal"} <= set(names)
    for name in names:
        assert read_config(find_config(name))
    monkeypatch.chdir(tmp_path)
    assert find_config("small/digits").is_absolute()
    assert find_config("x.toml") == Path("x.toml")
    Path("nmnist_3c1fc").touch()
    assert find_config("nmnist_3c1fc") == Path("nmnist_3c1fc")
    for text in ("digits", "list", "small/digits.tml", "../configs/small/digits", "", "a\0b"):
        with pytest.raises(InputError, match=r"no such file .*; known: cifar100_resnet18, .*small/digits, "):
            find_config(text)


def test_numbers_of_numpy_and_paths_are_settings(tmp_path: Path) -> None:
    """A sweep over np.arange() and a folder as a Path, in a notebook."""
    config = TrainConfig(
        epochs=np.int64(3),  # type: ignore[arg-type]
        lr=np.float64(0.5),
        clip=np.int8(2),
        flip=np.True_,
        data_root=tmp_path,  # type: ignore[arg-type]
        dataset=np.str_("digits"),
    )
    assert config == TrainConfig(epochs=3, lr=0.5, clip=2.0, flip=True, data_root=str(tmp_path))
    assert json.loads(json.dumps(config.as_dict())) == config.as_dict()
    with pytest.raises(InputError, match=r"^epochs must be a whole number, not 3\.0"):
        TrainConfig(epochs=np.float64(3))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"^lr must be finite, not nan"):
        TrainConfig(lr=np.float64("nan"))
