"""The GPU engine: Brian2's network written for CUDA by brian2cuda (extra ``[cuda]``), many recordings side by side."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any

from mtt_brian import machine
from mtt_brian.circuit.model import Circuit
from mtt_brian.circuit.spikes import InputSpikes
from mtt_brian.engines.brian2 import cuda_patch, internals
from mtt_brian.engines.brian2.execution import CUDA
from mtt_brian.engines.brian2.memory import estimate
from mtt_brian.engines.brian2.runtime import EXACT_FLAGS, Raw, copies_kept_busy
from mtt_brian.engines.brian2.schedule import InputSchedule
from mtt_brian.engines.brian2.standalone import Project, StandaloneEngine
from mtt_brian.errors import InputError, MachineError
from mtt_brian.files import cache_folder
from mtt_brian.repository import pip_install

#: Bytes per synapse on the GPU and, while the project starts, on the host: `i`, `j`, `w` and the tables that
#: brian2cuda makes of them.
GPU_BYTES_PER_SYNAPSE = 40
HOST_BYTES_PER_SYNAPSE = 130
#: On an H200 a recording of the N-MNIST network took 14.7 ms in batches of 64, and 27.7 ms in one of 512.
LARGEST_BATCH = 64
#: What code is written for where there is no GPU to ask: H100 and later run it.
DEFAULT_CAPABILITY = 9.0

#: Each brian2cuda works with one release of Brian2 only; the constraints name a pair.
_PACKAGE = '"mtt_brian[cuda]"'


@dataclass(frozen=True)
class Cuda:
    """The CUDA toolkit and the GPU of this machine.

    Attributes:
        path: of the toolkit, or None.
        version: of the toolkit, 13.0 for instance.
        include, libraries: folders with curand's headers and library, where they are not the toolkit's own.
        capability: compute capability of the first GPU, or None without a GPU.
        free_bytes: free memory of the first GPU.
    """

    path: Path | None
    version: float
    include: Path | None
    libraries: Path | None
    capability: float | None
    free_bytes: int

    @classmethod
    def find(cls) -> Cuda:
        """Searches for nvcc, curand and a GPU."""
        path = _toolkit()
        version = re.search(r"release (\d+\.\d+)", _output(path / "bin" / "nvcc", "--version")) if path else None
        include, libraries = _curand(path)
        gpu = _output("nvidia-smi", "--query-gpu=compute_cap,memory.free", "--format=csv,noheader,nounits", "--id=0")
        match = re.match(r"(\d+\.\d+), *(\d+)", gpu)
        return cls(
            path=path,
            version=float(version.group(1)) if version else 0.0,
            include=include,
            libraries=libraries,
            capability=float(match.group(1)) if match else None,
            free_bytes=int(match.group(2)) * 2**20 if match else 0,
        )

    def missing(self) -> list[str]:
        """What this machine lacks for a run, each with its remedy."""
        wanted = []
        if util.find_spec("brian2cuda") is None:
            wanted.append(f"the package brian2cuda: {pip_install(_PACKAGE)}")
        if self.path is None:
            wanted.append("nvcc, the CUDA compiler: install the CUDA toolkit, or set CUDA_PATH to it")
        elif self.include is None:
            wanted.append("curand's headers: install the toolkit's libcurand-dev, or pip install nvidia-curand")
        if self.capability is None:
            wanted.append("an NVIDIA GPU with its driver: nvidia-smi finds none")
        return wanted

    def preferences(self) -> dict[str, Any]:
        """Brian2's preferences for this machine.

        CUDA 13 needs C++17, which Brian2 does not ask for, in the host's compiler and in nvcc. Sums and products are
        rounded one by one (``--fmad=false``, no fast math), as on every other engine.
        """
        nvcc_flags = ["-w", "-std=c++17", "--fmad=false", "-Xcompiler", "-fPIC"]
        if self.include is not None:
            nvcc_flags.append(f"-I{self.include}")
        links = [f"-L{self.libraries}", "-Xlinker", f"-rpath={self.libraries}"] if self.libraries is not None else []
        return {
            internals.COMPILER_FLAGS: [flag for flag in EXACT_FLAGS if not flag.startswith("-march")],
            internals.LINKER_FLAGS: links,
            **internals.cuda_preferences(
                flags=nvcc_flags,
                capability=self.capability or DEFAULT_CAPABILITY,
                toolkit=str(self.path or "/usr/local/cuda"),
                version=self.version or 12.0,
            ),
        }


class CudaEngine(StandaloneEngine):
    """brian2cuda: one project, compiled once by nvcc, run for batches of recordings.

    The GPU's threads add weights in any order, so trained weights can differ from the other
    engines in the last bit, and then, rarely, by a spike; with weights on a dyadic grid all sums are exact and so are
    the spikes of IF networks. (The exponential function of the GPU, used for leaks, may also differ in the last bit.)

    Args:
        circuit: the network.
        order: ``"sum"``.
        record: see `mtt_brian.engines.simulate`.
        batch_size: recordings that run side by side; by default as many as keep all copies of the network busy, as
            memory allows.

    Raises:
        InputError: if brian2cuda is not installed, or what the engines on Brian2 refuse.
    """

    name = "brian2-cuda"
    device = "cuda_standalone"
    execution = CUDA
    bytes_per_synapse = HOST_BYTES_PER_SYNAPSE

    def __init__(
        self, circuit: Circuit, *, order: str = "sum", record: str = "all", batch_size: int | None = None
    ) -> None:
        super().__init__(circuit, order=order, record=record, batch_size=batch_size)
        try:
            import brian2cuda  # noqa: F401 - registers the device
        except ImportError as error:
            raise InputError(
                f"engine='brian2-cuda' needs brian2cuda ({error}); get it with: {pip_install(_PACKAGE)}"
            ) from None
        self.cuda = Cuda.find()

    def _part(self, circuit: Circuit) -> Circuit:
        """Without a readout that is a sum: that of the counts costs no launches, and no wait in every step."""
        late = any(connection.delayed for connection in circuit.into(circuit.output))  # spikes may still be under way
        return circuit.without_readout() if circuit.sums_up and len(circuit.populations) > 1 and not late else circuit

    def _default_batch_size(self, batch: Sequence[InputSpikes]) -> int:
        synapses = max(1, estimate(self._simulated).synapses)
        on_gpu = self.cuda.free_bytes // (2 * synapses * GPU_BYTES_PER_SYNAPSE)
        on_host = machine.available_bytes() // (2 * synapses * HOST_BYTES_PER_SYNAPSE)
        return max(1, min(copies_kept_busy(batch), LARGEST_BATCH, on_gpu, on_host))

    def _preferences(self) -> dict[str, Any]:
        return self.cuda.preferences()

    def write(self, inputs: InputSchedule, batch_size: int) -> Project:
        """The CUDA project; this much works without a GPU and without nvcc."""
        synapses, free = estimate(self._simulated, batch_size).synapses, self.cuda.free_bytes
        if self.cuda.capability and synapses * GPU_BYTES_PER_SYNAPSE > free:
            raise InputError(
                f"{synapses:,} synapses (batch_size={batch_size}) need {synapses * GPU_BYTES_PER_SYNAPSE / 2**20:,.0f}"
                f" MiB on the GPU, where {free / 2**20:,.0f} MiB are free: take a smaller batch_size, or engine='exact'"
            )
        internals.forget_cuda_installation()
        project = super().write(inputs, batch_size)
        cuda_patch.shorten(project.path, sum(c.matrix.nnz > 0 for c in self._simulated.connections))
        return project

    def _run_batch(self, inputs: InputSchedule, batch_size: int) -> Raw:
        if missing := self.cuda.missing():
            raise MachineError(f"engine='brian2-cuda' cannot run here; it lacks {'; '.join(missing)}")
        return super()._run_batch(inputs, batch_size)


def _toolkit() -> Path | None:
    """The folder of the CUDA toolkit: the named one, the one on the path, or the usual one."""
    folders = [Path(os.environ[name]) for name in ("CUDA_PATH", "CUDA_HOME") if os.environ.get(name)]
    if on_path := shutil.which("nvcc"):
        folders.append(Path(on_path).resolve().parents[1])
    # What is on the path may be a wrapper: a toolkit has headers too.
    for folder in [*folders, Path("/usr/local/cuda")]:
        if (folder / "bin" / "nvcc").is_file() and (folder / "include" / "cuda_runtime.h").is_file():
            return folder
    return None


def _curand(toolkit: Path | None) -> tuple[Path | None, Path | None]:
    """Folders of curand's headers and, if it is not the toolkit's, of its library."""
    if toolkit and (toolkit / "include" / "curand.h").is_file():
        return toolkit / "include", None
    for name in ("nvidia-curand", "nvidia-curand-cu12"):
        try:
            files = [Path(str(file.locate())) for file in metadata.files(name) or []]
        except metadata.PackageNotFoundError:
            continue
        header = next((file for file in files if file.name == "curand.h"), None)
        library = next((file for file in files if file.name.startswith("libcurand.so")), None)
        if header and library:
            return header.parent, _linkable(library)
    return None, None


def _linkable(library: Path) -> Path:
    """A folder with the library under the name that a linker looks for; the wheel has only libcurand.so.<version>."""
    folder = cache_folder() / "curand"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("libcurand.so", library.name):
        link = folder / name
        if not link.exists() or not link.samefile(library):
            link.unlink(missing_ok=True)
            link.symlink_to(library)
    return folder


def _output(*command: str | Path) -> str:
    """The output of a program; empty if it is missing or fails."""
    try:
        return subprocess.run([str(c) for c in command], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
