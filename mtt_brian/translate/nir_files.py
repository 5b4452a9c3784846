"""Reading of NIR files and of the values in a graph, for both halves of the package."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from mtt_brian import hdf5_files, text
from mtt_brian.errors import InputError
from mtt_brian.files import as_path, replacing
from mtt_brian.text import one_line, printable, shortened

if TYPE_CHECKING:
    import nir

Shape: TypeAlias = tuple[int, ...]

#: Largest whole number in a file (sides, strides, paddings), because indices have 32 bits.
LARGEST = 2**31 - 1
#: Attribute of a graph from a file: its path and its ignored contents, see `naming` and `not_read`.
_OF_FILE = "_file_of_this_graph"
#: Values of nodes that follow from those of their sources.
_SHAPES = frozenset({"input_type", "input_shape"})


def write_graph(path: str | os.PathLike[str], graph: nir.NIRGraph) -> None:
    """Write a graph to a ``.nir`` file, atomically. HDF5 has no None: such input shapes and metadata are left out.

    Raises:
        OSError: naming the file, if it cannot be written.
        InputError: for what is no graph, for names and values that a file cannot hold, and for a path that cannot be
            one.
    """
    import nir

    if not isinstance(graph, nir.NIRGraph):
        raise InputError(f"{path}: only a nir.NIRGraph can be written, not {shown(graph)}")
    try:
        for name, node in graph.nodes.items():
            if not isinstance(node, nir.NIRNode):
                raise InputError(f"node {name!r} is {shown(node)}; accepted are nodes of nir")
        tree = _storable(graph.to_dict())
    except InputError as error:
        raise InputError(f"{os.fspath(path)}: {error}") from None
    # First in memory: on a full disk HDF5 ends the process when it closes a file.
    content = io.BytesIO()
    nir.write(content, SimpleNamespace(to_dict=lambda: tree))
    with replacing(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def _storable(tree: dict[str, Any], where: str = "", of_metadata: bool = False) -> dict[str, Any]:
    """A graph as a dictionary of what HDF5 stores; for other values `nir.write` raises many types of exceptions."""
    kept: dict[str, Any] = {}
    for key, value in tree.items():
        if not isinstance(key, str) or key in ("", ".") or "/" in key or not _is_storable(key):
            raise InputError(f"a file has no place for the name {shown(key)}{where and f' in {where!r}'}; rename it")
        path = f"{where}/{key}" if where else key
        if isinstance(value, dict):
            kept[key] = _storable(value, path, of_metadata or key == "metadata")
        elif key == "edges" and "nodes" in tree:
            kept[key] = sorted(value) if isinstance(value, set | frozenset) else list(value)
        elif not (value is None and (of_metadata or key in _SHAPES)):
            kept[key] = _storable_value(value, repr(path))
    return kept


def _storable_value(value: Any, what: str) -> Any:
    """A number, a text, or an array of numbers or of texts."""
    import h5py

    array = as_array(value, what)
    if array.dtype.kind in "SU" and not isinstance(value, np.ndarray):
        array = np.array(value, object)  # numpy would turn a number beside a text into text
    texts = [plain(x) for x in array.flat] if array.dtype.kind in "OSU" else []
    if texts and all(isinstance(x, str) for x in texts):
        if wrong := [x for x in texts if not _is_storable(x)]:
            raise InputError(f"{what} holds the text {shown(wrong[0])}, for which a file has no place")
        return texts[0] if not array.ndim else np.array(texts, h5py.string_dtype()).reshape(array.shape)
    if texts or array.dtype.kind not in "biuf":
        array = numbers(array, what)
    return array if array.ndim else array[()]  # HDF5 does not compress a single number


def _is_storable(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text)


def load_graph(graph: nir.NIRGraph | str | os.PathLike[str]) -> nir.NIRGraph:
    """The given graph, or the graph of a ``.nir`` file.

    A file is read in a separate process, with limits on time and memory, see `hdf5_files`. NIR's own inference of
    shapes is not used, because it assumes square kernels; the users of a graph check its shapes.

    Raises:
        InputError: for anything else, and a file that is missing, damaged or no graph; the message names the file.
    """
    import nir

    if isinstance(graph, nir.NIRGraph):
        return graph
    if not isinstance(graph, str | os.PathLike):
        raise InputError(f"expected a nir.NIRGraph or the path of a .nir file, not {type(graph).__name__}")
    path = os.fsdecode(graph)
    if "\0" in path or not os.path.exists(path):
        raise InputError(f"no such NIR file: {path!r}" if "\0" in path else f"no such NIR file: {path}")
    if not os.path.isfile(path):
        raise InputError(f"{path} is {'a folder' if os.path.isdir(path) else 'a pipe or a device'}, not a NIR file")
    try:
        tree, ignored = hdf5_files.read_apart(path, hdf5_files.GRAPH)
        graph = _build_graph(tree)
    except InputError as error:
        raise InputError(f"{path} is not a readable NIR file: {error}") from None
    setattr(graph, _OF_FILE, (path, tuple(map(printable, ignored))))
    return graph


def load_data_tree(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The groups, arrays and attributes (as ``@name``) of a file of NIRData, read as `load_graph` reads a graph.

    Raises:
        InputError: for a file that is missing, damaged or something else; the message names the file.
    """
    name = str(as_path(path, "path"))
    if not os.path.isfile(name):
        raise InputError(f"no such NIRData file: {name}")
    try:
        return hdf5_files.read_apart(name, hdf5_files.DATA)[0]
    except InputError as error:
        raise InputError(f"{name} is not a readable NIRData file: {error}") from None


def not_read(graph: nir.NIRGraph) -> tuple[str, ...]:
    """Ignored contents of the file of a graph, one sentence each; empty for a graph without a file."""
    sentences: tuple[str, ...] = getattr(graph, _OF_FILE, ("", ()))[1]
    return sentences


@contextlib.contextmanager
def naming(graph: Any) -> Iterator[None]:
    """Puts the file's name in front of the message of an `InputError`, if ``graph`` is from a file, or its path."""
    try:
        yield
    except InputError as error:
        is_path = isinstance(graph, str | os.PathLike)
        path = os.fsdecode(graph) if is_path else getattr(graph, _OF_FILE, (None,))[0]
        if path is None or str(error).startswith((f"{path} ", f"{path}: ", "no such NIR file: ")):
            raise
        raise type(error)(f"{path}: {error}") from None


# ----- file -> values


def _build_graph(tree: dict[str, Any]) -> nir.NIRGraph:
    """The graph of a file; nested graphs are built from the innermost outwards, without recursion."""
    import nir

    kind = _kind(tree, "")
    if kind != "NIRGraph":
        raise InputError(f"it holds a single {kind} node, not a graph")
    found: list[tuple[dict[str, Any], str]] = []
    open_ones = [(tree, "")]
    while open_ones:
        graph, where = open_ones.pop()
        found.append((graph, where))
        _check_keys(graph, {"nodes", "edges"}, {"metadata"}, _of(where, "NIRGraph"))
        if not isinstance(graph["nodes"], dict):
            raise InputError(f"'nodes'{_in(where)} is not a group")
        for name, node in graph["nodes"].items():
            if _kind(node, _join(where, name)) == "NIRGraph":
                open_ones.append((node, _join(where, name)))
    built: dict[int, nir.NIRGraph] = {}
    for graph, where in reversed(found):
        nodes = {
            name: built[id(node)] if id(node) in built else _build_node(node, _join(where, name))
            for name, node in graph["nodes"].items()
        }
        metadata = _metadata(graph, _of(where, "NIRGraph"))
        built[id(graph)] = nir.NIRGraph(nodes, _edges(graph["edges"], where), metadata=metadata, type_check=False)
    return built[id(tree)]


def _build_node(tree: dict[str, Any], where: str) -> nir.NIRNode:
    """A node that is no graph."""
    import nir

    kind = _kind(tree, where)
    kinds = {name: getattr(nir, name) for name in nir.ir.__all__ if isinstance(getattr(nir, name), type)}
    if kind not in kinds or kind == "NIRNode":
        accepted = ", ".join(sorted(kinds.keys() - {"NIRNode"}))
        raise InputError(f"node {where!r} has the type {kind!r}, which NIR does not have; NIR has {accepted}")
    of = _of(where, kind)
    fields = {f.name: f for f in dataclasses.fields(kinds[kind]) if f.init}
    optional = {name for name, f in fields.items() if f.default is not dataclasses.MISSING} | {"metadata"}
    required = fields.keys() - optional
    if kind in ("Input", "Output"):
        required, optional = {"shape"}, {"metadata"}
    elif kind in ("Flatten", "Conv1d", "Conv2d"):  # their shapes follow from their sources
        declared = _SHAPES & fields.keys()
        required, optional = required - declared, optional | declared
    _check_keys(tree, set(required), optional, of)
    for key, value in tree.items():
        if isinstance(value, dict) and key != "metadata":
            raise InputError(f"{key}{of} is a group; accepted are values")
        if isinstance(value, str) and key not in ("type", "padding"):
            raise InputError(f"{key}{of} is the text {shown(value)}; accepted are numbers")
        if key != "metadata" and np.size(value) == 0:
            raise InputError(f"{key}{of} is empty: its shape is {np.shape(value)}")
    given = {**tree, "metadata": _metadata(tree, of)}
    # nir infers the output shape from a declared input shape, with its own checks; it is set afterwards.
    shape = given.pop("input_type" if kind == "Flatten" else "input_shape", None)
    if kind in ("Conv1d", "Conv2d"):
        given["input_shape"] = None
    try:
        node = kinds[kind].from_dict(given)
        if kind == "Flatten":
            node.input_type = {"input": shape}
        elif kind in ("Conv1d", "Conv2d"):
            node.input_shape = shape
        return node
    except Exception as error:  # nir raises many types of exceptions for values of another kind
        reason = " ".join(str(error).split()) or f"its values do not fit ({type(error).__name__})"
        raise InputError(f"node {where!r} ({kind}): {reason}") from None


def _kind(tree: Any, where: str) -> str:
    """The type of a node."""
    this = f"node {where!r}" if where else "'node'"
    if not isinstance(tree, dict):
        raise InputError(f"{this} is not a group")
    if not isinstance(tree.get("type"), str):
        given = f"not {shown(tree['type'])}" if "type" in tree else "which it lacks"
        raise InputError(f"the type of {this} must be text, {given}")
    return tree["type"]


def _metadata(tree: dict[str, Any], of: str) -> dict[str, Any]:
    metadata = tree.get("metadata", {})
    if not isinstance(metadata, dict):
        raise InputError(f"metadata{of} must be a group, not {shown(metadata)}")
    return metadata


def _edges(value: Any, where: str) -> list[tuple[str, str]]:
    edges = np.asarray(value)
    if edges.size == 0:
        return []
    if edges.dtype != object or edges.ndim != 2 or edges.shape[1] != 2:
        raise InputError(f"'edges'{_in(where)} must be pairs of node names, not {shown(value)}")
    return [(str(a), str(b)) for a, b in edges]


def _check_keys(tree: dict[str, Any], required: set[str], optional: set[str], of: str) -> None:
    if missing := sorted(required - tree.keys()):
        raise InputError(f"{missing[0]!r}{of} is missing")
    if unknown := sorted(tree.keys() - required - optional - {"type"}):
        accepted = ", ".join(sorted(required | optional))
        raise InputError(f"{unknown[0]!r}{of} is not a value that it has; accepted are {accepted}")


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _of(where: str, kind: str) -> str:
    return f" of node {where!r} ({kind})" if where else " of the graph"


def _in(where: str) -> str:
    return f" of the nested graph {where!r}" if where else ""


# ----- values


def plain(value: Any) -> Any:
    """Metadata as Python values; HDF5 gives bytes and numpy scalars."""
    if isinstance(value, np.ndarray | np.generic) and np.ndim(value) == 0:
        value = value.item()
    return value.decode("utf8", "backslashreplace") if isinstance(value, bytes) else value


def uniform(value: np.ndarray) -> float | np.ndarray:
    """One number if all entries agree, else the entries in float64."""
    value = np.asarray(value, dtype=np.float64)
    return float(value.flat[0]) if value.size and np.all(value == value.flat[0]) else value


def shown(value: Any) -> str:
    """A value for a message: on one line, and short."""
    if isinstance(value, dict):
        held = (f"{k!r}: {'a group' if isinstance(v, dict) else shown(v)}" for k, v in list(value.items())[:20])
        return shortened(f"{{{', '.join(held)}}}", 200)
    return text.shown(value.tolist() if isinstance(value, np.ndarray) and value.size < 100 else value)


def numbers(value: Any, what: str, *, bools: bool = True) -> np.ndarray:
    """Finite real numbers in their own precision, also from torch tensors and arrays of objects.

    Args:
        value: of a graph: an array, a number, a tensor.
        what: its name for messages, for instance ``"tau of node 'a'"``.
        bools: whether False and True count as 0 and 1.

    Raises:
        InputError: for complex numbers, text, NaN, infinite values, empty arrays, and numbers that float64 rounds.
    """
    array = as_array(value, what)
    if not bools and (array.dtype.kind == "b" or any(isinstance(x, bool | np.bool_) for x in _objects(array))):
        raise InputError(f"{what} must be a number, not {shown(plain(value))}")
    if array.dtype.kind == "O":
        single = (int, float, np.integer, np.floating, np.bool_)
        if not all(isinstance(x, single) for x in array.flat):
            raise InputError(f"{what} is not numeric: {shown(value)}")
        try:
            array = array.astype(np.float64)
        except OverflowError:
            raise InputError(f"{what} holds numbers that are too large: {shown(value)}") from None
    if array.dtype.kind == "c":
        raise InputError(f"{what} holds complex numbers; accepted are real ones")
    if array.dtype.kind not in "biuf":
        raise InputError(f"{what} is not numeric: {shown(value)}")
    if not array.size:
        raise InputError(f"{what} is empty: its shape is {array.shape}")
    with np.errstate(over="ignore"):
        as_float64 = array.astype(np.float64, copy=False)
    if not np.all(np.isfinite(as_float64)):
        raise InputError(f"{what} holds NaN or infinite values")
    if (rounded := _rounded(array, as_float64)) is not None:
        raise InputError(f"{what} holds {rounded}, which float64 rounds; accepted are numbers that it holds")
    return array


def _objects(array: np.ndarray) -> Iterable[Any]:
    return array.flat if array.dtype.kind == "O" else ()


def _rounded(array: np.ndarray, as_float64: np.ndarray) -> str | None:
    """A number that float64 rounds, if there is one."""
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        differs = array != as_float64
    elif array.dtype.kind in "iu" and array.dtype.itemsize == 8:
        differs = np.abs(as_float64) >= 2.0**53
    else:
        return None
    for exact, rounded in zip(array[differs].tolist(), as_float64[differs].tolist(), strict=True):
        if exact != rounded:  # Python compares whole numbers with floats exactly
            return str(exact)
    return None


def _of_tensor(value: Any, what: str) -> np.ndarray:
    """The numbers of a torch tensor of any layout."""
    try:
        value = value.detach()
        kinds = {
            "is_meta": "on the device meta, which keeps no values",
            "is_quantized": "quantized",
            "is_nested": "nested",
        }
        for attribute, kind in kinds.items():
            if getattr(value, attribute):
                raise InputError(f"{what} is a tensor that is {kind}; accepted are tensors of plain numbers")
        if value.is_complex():
            raise InputError(f"{what} holds complex numbers; accepted are real ones")
        if str(value.layout) != "torch.strided":  # sparse ones, and those of oneDNN
            value = value.to_dense()
        value = value.cpu().resolve_conj().resolve_neg()
        try:
            found: np.ndarray = value.numpy()
        except TypeError:  # bfloat16
            found = value.float().numpy()
        return found
    except InputError:
        raise
    except Exception as error:  # objects with a detach(), and tensors that torch cannot convert
        raise InputError(f"{what} is not numeric: {one_line(error, 120)}") from None


def as_array(value: Any, what: str) -> np.ndarray:
    """A value of a graph as an array of any kind."""
    if hasattr(value, "detach"):  # a torch tensor
        return _of_tensor(value, what)
    if np.ma.is_masked(value):
        raise InputError(f"{what} holds masked values")
    try:
        return np.asarray(value)
    except Exception as error:  # rows of different lengths, and other objects
        raise InputError(f"{what} is not numeric: {' '.join(str(error).split())}") from None


def whole_numbers(value: Any, what: str, minimum: int) -> tuple[int, ...]:
    """Whole numbers from ``minimum`` to `LARGEST`, flat.

    Raises:
        InputError: for anything else.
    """
    try:
        given = np.ravel(numbers(value, what))
    except InputError as error:
        raise InputError(f"{error}; accepted are whole numbers >= {minimum}") from None
    for number in given.tolist():
        if not (minimum <= number <= LARGEST and number == np.floor(number)) or given.dtype.kind == "b":
            raise InputError(
                f"{what} must consist of whole numbers from {minimum} to {LARGEST:,}, not {shown(plain(value))}"
            )
    return tuple(int(number) for number in given)


def one_whole_number(value: Any, what: str, minimum: int) -> int:
    """One whole number from ``minimum`` to `LARGEST`."""
    given = whole_numbers(value, what, minimum)
    if len(given) != 1:
        raise InputError(f"{what} must be one whole number, not {shown(value)}")
    return given[0]


def for_each_axis(axes: int, what: str, value: Any, minimum: int) -> tuple[int, ...]:
    """A whole number for each axis in space, from as many or from one for all."""
    given = whole_numbers(value, what, minimum)
    if len(given) not in (1, axes):
        accepted = "one whole number" if axes == 1 else "one or two whole numbers"
        raise InputError(f"{what} must be {accepted} >= {minimum}, not {shown(value)}")
    return given if len(given) == axes else given * axes


def declared_shape(value: Any, what: str) -> Shape:
    """The shape that an Input or Output node declares: at least one axis, at least 1 along each."""
    return whole_numbers(value, what, 1)


def aligned(own: Shape, shape: Shape) -> Shape | None:
    """The shape of parameters that are repeated along axes of 1 to fill another shape, with as many axes; else None."""
    if all(n == 1 for n in own):
        return (1,) * len(shape)
    more = len(own) - len(shape)
    kept = own[more:] if more > 0 and all(n == 1 for n in own[:more]) else own
    fits = len(kept) == len(shape) and all(n in (1, m) for n, m in zip(kept, shape, strict=True))
    return kept if fits else None


def typed_shape(given: Any, name: str) -> Any:
    """The shape in a node's ``input_type`` or ``output_type``, which hold one by name."""
    if not isinstance(given, dict):
        return given
    return given.get(name, next(iter(given.values()), None))
