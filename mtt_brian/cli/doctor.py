"""Check the installation: what works on this machine, and the remedy for what does not.

mtt-brian doctor                       # the engines, training, the cache and the built-in data
mtt-brian doctor --data nmnist=~/data  # a data set, too

Every engine is checked by running a network of one neuron whose spikes are known: weight 0.75, threshold 1, input at
1, 2 and 3 ms, hence spikes at 2 and 3 ms and 0.25 left. The exit status is 0 if the core works (the exact engine and
Brian2's runtime) and the data sets of --data were found. Everything else is optional.
"""

from __future__ import annotations

import contextlib
import io
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from mtt_brian import cli, machine
from mtt_brian.errors import InputError
from mtt_brian.files import expanded, package_versions
from mtt_brian.progress import notice
from mtt_brian.repository import pip_install

#: What the core needs, and the training.
_CORE, _TRAINING = pip_install("mtt_brian"), pip_install('"mtt_brian[train]"')


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: for people.
        run: does it; returns the text to print, raises anything where it does not work.
        remedy: what to do then; an `InputError` has its own.
        required: without it the exit status is 1.
        cpu_engine: the engine that works on this machine's processors if this check succeeds.
        wait: what takes long, in words; printed before.
    """

    name: str
    run: Callable[[], str]
    remedy: str = ""
    required: bool = False
    cpu_engine: str | None = None
    wait: str = ""


class Broken(Exception):
    """A check that ran and found something wrong."""


def one_neuron(engine: str, **options: Any) -> str:
    """Run the network of one neuron; returns how long it took.

    Raises:
        Broken: if its spikes are not those computed by hand.
    """
    import nir
    import numpy as np

    from mtt_brian.engines import simulate

    graph = nir.NIRGraph(
        nodes={
            "input": nir.Input(input_type=np.array([1])),
            "weight": nir.Linear(weight=np.array([[0.75]])),
            "neuron": nir.IF(r=np.ones(1), v_threshold=np.ones(1), metadata={"reset": "subtract"}),
            "output": nir.Output(output_type=np.array([1])),
        },
        edges=[("input", "weight"), ("weight", "neuron"), ("neuron", "output")],
        type_check=False,
    )
    recording = np.array([(1000, 0), (2000, 0), (3000, 0)], dtype=[("t", np.int64), ("x", np.int64)])
    begin = time.perf_counter()
    with contextlib.redirect_stderr(io.StringIO()):
        result = simulate(graph, recording, engine, **options)
    spikes = result.spikes["neuron"].t.tolist()
    if spikes != [0.002, 0.003]:
        raise Broken(f"a neuron that has to fire at 0.002 and 0.003 s fired at {spikes}")
    return f"one neuron, right spikes, {time.perf_counter() - begin:.1f} s"


def _python() -> str:
    return f"{platform.python_version()}, {platform.system()} {platform.machine()}, {machine.cores()} cores"


def _versions() -> str:
    found = package_versions("brian2", "nir", "numpy", "numba")
    return ", ".join(f"{name} {version}" for name, version in found.items() if name != "python")


def _torch() -> str:
    import torch

    weight = torch.ones(1, requires_grad=True)
    (2 * weight).sum().backward()
    if weight.grad is None or weight.grad.item() != 2:
        raise Broken("the gradient of 2 w is not 2")
    devices = [f"{torch.cuda.get_device_name(k)} (cuda:{k})" for k in range(torch.cuda.device_count())]
    for k in range(len(devices)):
        torch.ones(1, device=f"cuda:{k}").sum().item()
    return f"{torch.__version__}; trains on: {', '.join(['cpu', *devices])}"


def _cuda() -> str:
    from mtt_brian.engines.brian2.cuda import Cuda

    if missing := Cuda.find().missing():
        raise Broken("lacks " + "; ".join(missing))
    return one_neuron("brian2-cuda")


def _cache() -> str:
    from mtt_brian.files import cache_folder

    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass
    return f"{folder} can be written"


def _built_in_data() -> str:
    from mtt_brian import events

    recordings = events.load("digits", split="test", progress=False)
    return f"{recordings.title}: {len(recordings)} test recordings, the first with {len(recordings[0])} events"


def _data(name: str, folder: str) -> str:
    from mtt_brian import events

    found = []
    for split in ("train", "test"):
        try:
            collection = events.load(name, root=folder, split=split, progress=False)
        except InputError as error:
            found.append(f"{split}: {error}")
        else:
            len(collection[0])  # reads it
            found.append(f"{len(collection)} {split}")
    if all(":" in part for part in found):
        raise Broken(found[0])
    return ", ".join(found)


CHECKS = (
    Check("Python", _python),
    Check("packages", _versions, _CORE, required=True),
    Check("engine exact (numba)", lambda: one_neuron("exact"), pip_install("numba"), True, "exact"),
    Check("engine brian2, numpy", lambda: one_neuron("brian2", target="numpy"), pip_install("brian2"), True, "brian2"),
    Check(
        "engine brian2, cython",
        lambda: one_neuron("brian2", target="cython"),
        "install a C++ compiler (Debian, Ubuntu: apt install g++ python3-dev); until then use target='numpy'",
        wait="compiling for Brian2 with Cython, a minute or more at first",
    ),
    Check(
        "engine brian2-cpp",
        lambda: one_neuron("brian2-cpp"),
        "install g++ and make (apt install g++ make)",
        cpu_engine="brian2-cpp",
        wait="compiling for Brian2 in C++, a minute",
    ),
    Check("engine brian2-cuda", _cuda, wait="looking for CUDA, and compiling for it where it is"),
    Check("engine exact-cuda", lambda: one_neuron("exact-cuda"), wait="looking for a GPU"),
    Check("torch (training)", _torch, _TRAINING),
    Check("cache folder", _cache, "set MTT_BRIAN_CACHE to a folder that can be written"),
    Check("built-in data", _built_in_data, wait="making the built-in data, once"),
)


def of_other_packages() -> list[Check]:
    """Checks of the engines that installed packages add."""
    from mtt_brian.engines import ENGINES

    ours = {name.removeprefix("engine ").split(",")[0].split()[0] for name in (check.name for check in CHECKS)}
    return [Check(f"engine {name}", partial(one_neuron, name)) for name in ENGINES if name not in ours]


def examine(checks: Sequence[Check]) -> list[Check]:
    """Run checks and print a line for each; returns those that failed."""
    failed = []
    for check in checks:
        if check.wait:
            notice(check.wait)
        try:
            print(f"  ok    {check.name:24} {check.run()}", flush=True)
        except Exception as error:  # whatever is wrong with a machine, the other checks go on
            failed.append(check)
            kind = "" if isinstance(error, InputError | Broken) else f"{type(error).__name__}: "
            mark, optional = ("FAIL", "") if check.required else ("--  ", "optional: ")
            print(f"  {mark}  {check.name:24} {optional}{kind}{str(error).strip()[:600]}", flush=True)
            if check.remedy and not isinstance(error, InputError):
                print(f"{'':34}-> {check.remedy}")
    return failed


def verdict(checks: Sequence[Check], failed: Sequence[Check]) -> str:
    """Whether all that is required works, and how many engines."""
    wrong = [check.name for check in failed if check.required]
    engines = {check.cpu_engine for check in checks if check.cpu_engine}
    working = {check.cpu_engine for check in checks if check not in failed} & engines
    required = f"FAIL: {', '.join(wrong)}" if wrong else "All that is required works."
    return f"{required}\n{len(working)} of {len(engines)} engines for CPUs work"


def make_parser() -> cli.Parser:
    """The command line."""
    parser = cli.parser(__doc__, "doctor")
    parser.add_argument(
        "--data", action="append", default=[], metavar="NAME=DIR", help="also check a data set, as nmnist=~/data"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    checks = [*CHECKS, *of_other_packages()]
    for text in options.data:
        name, separator, folder = text.partition("=")
        if not separator:
            parser.error(f"--data takes NAME=DIR, not {text!r}")
        where = str(expanded(folder, f"--data {name}"))
        checks.append(Check(f"data {name}", partial(_data, name, where), required=True))
    failed = examine(checks)
    print(f"\n{verdict(checks, failed)}")
    return 1 if any(check.required for check in failed) else 0
