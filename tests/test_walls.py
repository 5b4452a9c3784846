"""The walls of the house: which room imports which, and where torch and private names of other packages may stand."""

import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mtt_brian"

#: Room -> the rooms that it may import besides its own, whatever the place of the import in a file.
BASEMENT = {"errors", "text", "files", "machine", "registry", "kernel_cache", "progress", "workers"}
BASEMENT |= {"hdf5_files", "hdf5_tree", "html_repr", "repository", "control_groups"}
ROOMS = {
    **{room: BASEMENT for room in BASEMENT},
    "moved": set(),
    "neuron": BASEMENT,
    "events": BASEMENT,
    "circuit": {*BASEMENT, "neuron", "events"},
    "translate": {*BASEMENT, "neuron", "events", "circuit"},
    "engines": {*BASEMENT, "neuron", "events", "circuit", "translate"},
    "evaluate": {*BASEMENT, "neuron", "events", "circuit", "translate", "engines"},
    "plotting": {*BASEMENT, "neuron", "events", "circuit", "translate", "engines", "evaluate"},
    "snn": {*BASEMENT, "neuron"},
    "mtt": {*BASEMENT, "neuron", "events", "snn"},
    # The only file right of model.nir that the exporter needs is the one that reads and writes it.
    "export": {*BASEMENT, "neuron", "snn", "translate"},
    "experiments": {
        *BASEMENT,
        *("neuron", "events", "circuit", "translate", "engines", "evaluate", "plotting", "snn", "mtt", "export"),
    },
}
#: Re-exports at first use, which close no circle: `mb.translate.to_brian2`.
LAZY = {("translate/__init__.py", "engines")}
#: What is above all rooms.
TOP = {"cli", "__main__", "__init__", "event_driven"}
#: Rooms that run without torch: all right of model.nir, and what they stand on.
WITHOUT_TORCH = {*BASEMENT, "moved", "neuron", "events", "circuit", "translate", "engines", "evaluate", "plotting"}


def modules() -> dict[str, Path]:
    """Dotted name below the package -> file."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts) or "__init__"] = path
    return found


@cache
def imported(path: Path) -> frozenset[str]:
    """Full dotted names that a file imports, at its top or within functions; ``from a import b`` is ``a.b``."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(names)


def room(module: str) -> str:
    return module.split(".")[0]


def arrows() -> dict[tuple[str, str], set[str]]:
    """(room, room that it imports) -> files that do."""
    found = defaultdict(set)
    here = modules()
    for module, path in here.items():
        for name in imported(path):
            if not name.startswith("mtt_brian."):
                continue
            target = name.removeprefix("mtt_brian.")
            if room(target) in {room(other) for other in here}:
                found[room(module), room(target)].add(str(path.relative_to(PACKAGE)))
    return found


def test_every_room_is_listed():
    assert {room(module) for module in modules()} == {*ROOMS, *TOP}


def test_rooms_import_only_rooms_to_their_left_or_below():
    wrong = {
        f"{source} -> {target}: {', '.join(sorted(files))}"
        for (source, target), files in arrows().items()
        if source not in TOP
        and target not in {source, *ROOMS[source]}
        and not all((file, target) in LAZY for file in files)
    }
    assert not wrong, "\n".join(sorted(wrong))


def test_the_list_has_no_circle():
    left = dict(ROOMS)
    while left:
        free = [name for name, others in left.items() if not (others - BASEMENT - {name}) & set(left)]
        assert free, f"a circle among {sorted(left)}"
        left = {name: others for name, others in left.items() if name not in free}


def test_the_exporter_needs_of_the_other_half_only_the_files():
    found = {
        name
        for module, path in modules().items()
        if room(module) == "export"
        for name in imported(path)
        if name.startswith("mtt_brian.translate")
    }
    assert {name.split(".")[2] for name in found} <= {"nir_files", "node_fields", "to_tool", "tools"}, found


def test_event_driven_rooms_import_no_torch():
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for module, path in modules().items()
        if room(module) in WITHOUT_TORCH
        for name in imported(path)
        if name.split(".")[0] in ("torch", "nirtorch")
    ]
    assert not wrong, wrong


def test_no_engine_imports_another_engine():
    """Neither engine imports the other; what both need lies below them."""
    for module, path in modules().items():
        for name in imported(path):
            below = ("mtt_brian.engines.exact", "mtt_brian.engines.brian2")
            if module.startswith("engines.exact"):
                assert not name.startswith(below[1]), f"{module} imports {name}"
            if module.startswith("engines.brian2"):
                assert not name.startswith(below[0]), f"{module} imports {name}"
            if module.startswith("engines.lowered"):
                assert not name.startswith(below), f"{module} imports {name}"


#: Package -> the one file of ours that may use its private or unstable names, and a pattern that finds them.
PRIVATE = {
    "numba": (
        ("kernel_cache.py", "engines/exact/jit.py", "engines/exact/indexing.py"),
        r"_nrt\b|forceinline|numba\.core|CACHE_DIR|numba\.config",
    ),
    "cupy": (("engines/exact_cuda/gpu.py",), r"\bcupyx?\b"),
    "torch": (("snn/ops/internals.py",), r"torch\._(?!_)\w+|_BatchNorm\b|_DropoutNd\b|nn\.modules\."),
    "brian2": (
        ("engines/brian2/internals.py",),
        r"auto_target|reset_device|all_devices|catch_logs|_spikespace|apply_run_args|get_array_(file)?name"
        r"|before_network_run|\bt_ = |gputools|reset_cuda_installation|reset_gpu_selection",
    ),
}


@pytest.mark.parametrize("package", PRIVATE)
def test_private_names_of_other_packages_stand_in_their_adapter_file(package):
    allowed, pattern = PRIVATE[package]
    wrong = []
    for path in modules().values():
        file = str(path.relative_to(PACKAGE))
        if file in allowed:
            continue
        code = ast.unparse(ast.parse(path.read_text()))  # without comments
        code = re.sub(r'"""(?:.|\n)*?"""', "", code)
        wrong += [f"{file}: {match.group()}" for match in re.finditer(pattern, code)]
    assert not wrong, "\n".join(wrong)


def test_no_code_tests_the_name_of_an_engine():
    """The abilities of an engine are in its `EngineInfo`; only the engine compares its own name."""
    wrong = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in modules().values()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Compare)
        and any(
            isinstance(side, ast.Constant) and side.value in ENGINE_NAMES for side in (node.left, *node.comparators)
        )
    ]
    assert not wrong, wrong


ENGINE_NAMES = ("exact", "brian2", "brian2-cpp", "brian2-cuda", "exact-cuda")
