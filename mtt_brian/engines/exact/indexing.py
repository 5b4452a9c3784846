"""A step of numba's compiler that makes array indices unsigned.

In Python, index -1 is the last element. For a signed index numba compiles a test of its sign and an addition of the
array's length in front of every access, which is a third of the machine code of our kernels. They use no negative
index; for unsigned ones there is no such code. Bounds are not checked in either case.
"""

from __future__ import annotations

from typing import Any

from numba.core import ir, types
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.ir_utils import mk_unique_var
from numba.core.typed_passes import NopythonRewrites
from numba.core.typing import signature


@register_pass(mutates_CFG=False, analysis_only=False)
class _UnsignedIndices(FunctionPass):
    """Casts every signed integer, or tuple of them, that indexes an array."""

    _name = "unsigned_indices"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        for block in state.func_ir.blocks.values():
            body = []
            for statement in block.body:
                access = statement
                if isinstance(statement, ir.Assign):
                    access = statement.value
                reads = isinstance(access, ir.Expr) and access.op == "getitem"
                if reads or isinstance(access, ir.SetItem):
                    body += _cast(state, block.scope, access, "value" if reads else "target")
                body.append(statement)
            block.body = body
        return True


def _cast(state: Any, scope: Any, access: Any, array: str) -> list[Any]:
    """Replaces the index of an access by an unsigned one; the statements that must come before it."""
    index = access.index
    unsigned = _unsigned(state.typemap[index.name])
    if unsigned is None or not isinstance(state.typemap[getattr(access, array).name], types.Array):
        return []
    variable = ir.Var(scope, mk_unique_var("unsigned_index"), access.loc)
    state.typemap[variable.name] = unsigned
    old = state.calltypes.pop(access)
    access.index = variable
    state.calltypes[access] = signature(old.return_type, old.args[0], unsigned, *old.args[2:])
    return [ir.Assign(ir.Expr.cast(index, access.loc), variable, access.loc)]


def _unsigned(index: Any) -> Any:
    """The unsigned type of a signed index, or None for other types."""
    if isinstance(index, types.Integer):
        return types.uintp if index.signed else None
    if isinstance(index, types.BaseTuple) and all(isinstance(one, types.Integer) for one in index):
        return types.UniTuple(types.uintp, len(index))
    return None


class Compiler(CompilerBase):
    """Numba's compiler with this step."""

    def define_pipelines(self) -> list[Any]:
        passes = DefaultPassBuilder.define_nopython_pipeline(self.state)
        passes.add_pass_after(_UnsignedIndices, NopythonRewrites)
        passes.finalize()
        return [passes]
