"""Vectors for compiled loops: `Lanes`, 16 neighbouring channels that are computed as one value.

They are one register of AVX-512, two of AVX2, four of NEON or SSE.

A loop over numbers becomes fast only if the compiler can prove much about it. Here the loops say
themselves what goes side by side: an addition of lanes is one instruction of the processor, or a
few where its registers are narrower. Multiplications and additions may be fused; nothing is
reordered, except in `total`, whose order is the same on every call.

This module imports numba, so it is imported where a scan is first compiled.
"""

import inspect
import operator
from collections.abc import Callable
from typing import Any, TypeVar

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

from kellgren.learn.backbones.scan.threads import WIDTH, Value

# Parts of numba that have no types of their own.
njit: Value = numba.njit
given_as: Value = overload
external: Value = cgutils.get_or_insert_function

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile on first call, release the lock of Python while running, keep on disk if possible."""
    bare = inspect.unwrap(function)
    try:
        return njit(nogil=True, cache=True, error_model="numpy")(bare)
    except RuntimeError:  # neither this package nor a home may be written to
        return njit(nogil=True, error_model="numpy")(bare)


def inlined(function: Function) -> Function:
    """Compile into whoever calls it."""
    return njit(nogil=True, forceinline=True, error_model="numpy")(inspect.unwrap(function))


def instruction(function: Function) -> Value:
    """Make a function of compiled code from the types of its result and the code it stands for."""
    return intrinsic(inspect.unwrap(function))


class Lanes(types.Type):
    """Numba's type of a vector of `WIDTH` numbers."""

    def __init__(self, dtype: types.Float) -> None:
        self.dtype = dtype
        super().__init__(name=f"Lanes({dtype}, {WIDTH})")


@register_model(Lanes)
class LanesModel(models.PrimitiveModel):
    """Lanes are a vector of LLVM."""

    def __init__(self, manager: Value, lanes: Lanes) -> None:
        super().__init__(manager, lanes, vector(lanes.dtype))  # type: ignore[no-untyped-call]


def scalar(dtype: types.Float) -> ir.Type:
    """LLVM's type of a number."""
    return {32: ir.FloatType(), 64: ir.DoubleType()}[dtype.bitwidth]


def vector(dtype: types.Float) -> ir.VectorType:
    """LLVM's type of a vector of numbers."""
    return ir.VectorType(scalar(dtype), WIDTH)


def repeated(builder: ir.IRBuilder, value: Value, kind: ir.Type) -> Value:
    """A vector with the same value in each lane."""
    nothing = ir.Constant(ir.VectorType(kind, WIDTH), ir.Undefined)
    first = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
    one = builder.insert_element(nothing, value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, nothing, first)


def pointer(context: Value, builder: ir.IRBuilder, array: tuple[Value, Value], at: Value) -> Value:
    """Where the lanes lie that begin at an index of a flat array."""
    kind, value = array
    start = builder.gep(context.make_array(kind)(context, builder, value).data, [at])
    return builder.bitcast(start, vector(kind.dtype).as_pointer())


def first_lanes(builder: ir.IRBuilder, count: Value) -> Value:
    """A mask of the first `count` lanes."""
    long = ir.IntType(64)
    numbers = ir.Constant(ir.VectorType(long, WIDTH), list(range(WIDTH)))
    return builder.icmp_signed("<", numbers, repeated(builder, count, long))


@instruction
def load(_typing: Value, array: Value, at: Value, count: Value) -> Value:
    """The `count` numbers that begin at an index of a flat array; zero in the other lanes."""

    def code(context: Value, builder: Value, signature: Value, args: Value) -> Value:
        dtype = signature.args[0].dtype
        v, bits = vector(dtype), ir.IntType(32)
        mask = ir.VectorType(ir.IntType(1), WIDTH)
        kind = ir.FunctionType(v, [v.as_pointer(), bits, mask, v])
        name = f"llvm.masked.load.v{WIDTH}f{dtype.bitwidth}.p0"
        masked = external(builder.module, kind, name)
        where = pointer(context, builder, (signature.args[0], args[0]), args[1])
        aligned = ir.Constant(bits, dtype.bitwidth // 8)
        chosen = first_lanes(builder, args[2])
        return builder.call(masked, [where, aligned, chosen, ir.Constant(v, None)])

    return Lanes(array.dtype)(array, types.intp, types.intp), code


@instruction
def store(_typing: Value, array: Value, at: Value, count: Value, x: Value) -> Value:
    """Write the first `count` lanes to a flat array, from an index on."""

    def code(context: Value, builder: Value, signature: Value, args: Value) -> Value:
        dtype = signature.args[0].dtype
        v, bits = vector(dtype), ir.IntType(32)
        mask = ir.VectorType(ir.IntType(1), WIDTH)
        kind = ir.FunctionType(ir.VoidType(), [v, v.as_pointer(), bits, mask])
        name = f"llvm.masked.store.v{WIDTH}f{dtype.bitwidth}.p0"
        masked = external(builder.module, kind, name)
        where = pointer(context, builder, (signature.args[0], args[0]), args[1])
        aligned = ir.Constant(bits, dtype.bitwidth // 8)
        builder.call(masked, [args[3], where, aligned, first_lanes(builder, args[2])])
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, x), code


@instruction
def spread(_typing: Value, array: Value, at: Value) -> Value:
    """The number at an index of a flat array, in each lane."""

    def code(context: Value, builder: Value, signature: Value, args: Value) -> Value:
        kind = signature.args[0]
        data = context.make_array(kind)(context, builder, args[0]).data
        number = builder.load(builder.gep(data, [args[1]]))
        return repeated(builder, number, scalar(kind.dtype))

    return Lanes(array.dtype)(array, types.intp), code


@instruction
def zeros(_typing: Value, array: Value) -> Value:
    """Zero in each lane, in the precision of an array."""

    def code(_context: Value, _builder: Value, signature: Value, _args: Value) -> Value:
        return ir.Constant(vector(signature.args[0].dtype), None)

    return Lanes(array.dtype)(array), code


@instruction
def like(_typing: Value, x: Value, value: Value) -> Value:
    """A constant in each lane, in the precision of `x`."""

    def code(_context: Value, builder: Value, signature: Value, args: Value) -> Value:
        kind = scalar(signature.args[0].dtype)
        single = kind == ir.FloatType()
        number = builder.fptrunc(args[1], kind) if single else args[1]
        return repeated(builder, number, kind)

    return x(x, types.float64), code


@instruction
def total(_typing: Value, x: Value) -> Value:
    """Sum over the lanes."""

    def code(_context: Value, builder: Value, signature: Value, args: Value) -> Value:
        dtype = signature.args[0].dtype
        kind = ir.FunctionType(scalar(dtype), [scalar(dtype), vector(dtype)])
        name = f"llvm.vector.reduce.fadd.v{WIDTH}f{dtype.bitwidth}"
        add = external(builder.module, kind, name)
        return builder.call(add, [ir.Constant(scalar(dtype), -0.0), args[0]], fastmath=("reassoc",))

    return x.dtype(x), code


@instruction
def where_negative(_typing: Value, x: Value, then: Value, otherwise: Value) -> Value:
    """Lane by lane one of two values; `otherwise` where `x` is NaN."""

    def code(_context: Value, builder: Value, signature: Value, args: Value) -> Value:
        zero = ir.Constant(vector(signature.args[0].dtype), None)
        return builder.select(builder.fcmp_ordered("<", args[0], zero), args[1], args[2])

    return x(x, x, x), code


def binary(name: str) -> Value:
    """An instruction on two vectors; with the next one it may be fused, as in a * b + c."""

    @instruction
    def operation(_typing: Value, x: Value, y: Value) -> Value:
        def code(_context: Value, builder: Value, _signature: Value, args: Value) -> Value:
            return getattr(builder, name)(*args, flags=("contract",))

        return x(x, y), code

    return operation


def define(symbol: Callable[[Value, Value], Value], operation: Value) -> None:
    """Let compiled code write an operation on lanes as a symbol."""
    given_as(symbol)(
        lambda x, y: (lambda x, y: operation(x, y)) if isinstance(x, Lanes) and x == y else None
    )


define(operator.add, binary("fadd"))
define(operator.sub, binary("fsub"))
define(operator.mul, binary("fmul"))
define(operator.truediv, binary("fdiv"))
