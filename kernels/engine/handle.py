"""Tuples of arrays that compiled code knows by one address.

Numba passes a tuple of nine arrays as some sixty numbers and counts references to each at every call; the loop of a run
then spends its time, and its compiler, on carrying them about. Here such a tuple is the address of its `table`: for
each field the address and the shape of the array. Compiled code reads from the table what it touches and counts
nothing. So whoever holds the tuple must outlive the calls that it is passed to, and its arrays are never exchanged.

A class passed so is a `NamedTuple` made by `kernels.engine.arrays.addressed`, whose last fields are `table` and `at`,
the table's address. The other fields are records, and C-contiguous arrays of one or two dimensions.
"""

from typing import Any

from numba import typeof
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.core.datamodel.registry import register_default
from numba.core.pythonapi import NativeValue
from numba.core.typing.templates import AttributeTemplate
from numba.experimental.function_type import _get_jit_address
from numba.extending import infer_getattr, intrinsic, lower_getattr_generic, typeof_impl, unbox
from numba.np.arrayobj import populate_array

from kernels.engine.arrays import PLACE
from kernels.jit import PLAIN

_BYTES = cgutils.voidptr_t
_NUMBER = cgutils.intp_t


class Address(types.Type):
    """The type of a tuple that is passed by the address of its table."""

    def __init__(self, made: type, field: tuple[tuple[str, Any], ...]) -> None:
        self.made = made
        self.field = field
        super().__init__(made.__qualname__)  # short: it is a part of the name of every compiled function


def passed_by_address(example: Any) -> Address:
    """The type of the example's class, whose instances all have fields of the example's types; registers it."""
    made = type(example)
    names = [name for name in made._fields if name not in ("table", "at")]
    kind = Address(made, tuple((name, typeof(getattr(example, name))) for name in names))
    typeof_impl.register(made)(lambda value, context: kind)
    return kind


@register_default(Address)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Address) -> None:
        super().__init__(manager, kind, _BYTES)


@unbox(Address)
def _unbox(kind: Address, value: Any, c: Any) -> NativeValue:
    at = c.pyapi.object_getattr_string(value, "at")
    number = c.pyapi.long_as_longlong(at)
    c.pyapi.decref(at)
    return NativeValue(
        c.builder.inttoptr(number, _BYTES), is_error=cgutils.is_not_null(c.builder, c.pyapi.err_occurred())
    )


@infer_getattr
class _Attribute(AttributeTemplate):
    key = Address

    def generic_resolve(self, kind: Address, name: str) -> types.Type | None:
        return dict(kind.field).get(name)


@lower_getattr_generic(Address)
def _read(context: Any, builder: Any, kind: Address, value: Any, name: str) -> Any:
    """A field: its record's address, or an array made of what the table says, with nobody as its owner."""
    place = [field for field, _ in kind.field].index(name)
    table = builder.bitcast(value, _NUMBER.as_pointer())

    def number(k: int) -> Any:
        read = builder.load(builder.gep(table, [context.get_constant(types.intp, PLACE * place + k)]))
        read.set_metadata("invariant.load", builder.module.add_metadata([]))  # tables do not change
        return read

    held: Any = kind.field[place][1]
    if isinstance(held, types.Record):
        return builder.inttoptr(number(0), context.get_value_type(held))
    item = context.get_data_type(held.dtype)
    size = context.get_constant(types.intp, context.get_abi_sizeof(item))
    shape = [number(1 + dimension) for dimension in range(held.ndim)]
    array = context.make_array(held)(context, builder)
    populate_array(
        array,
        data=builder.inttoptr(number(0), item.as_pointer()),
        shape=shape,
        strides=[size] if held.ndim == 1 else [builder.mul(shape[1], size), size],
        itemsize=size,
        meminfo=None,
    )
    return array._getvalue()


def address_of(function: Any, signature: Any) -> Any:
    """Where a compiled function of this signature lies; where nothing is compiled, the function. Numba looks the place
    up in half a millisecond whenever a function is an argument. Whoever holds the address holds the function."""
    return function if PLAIN else _get_jit_address(function, signature)


def function_reader(signature: Any) -> Any:
    """`read(address)`, in compiled code: the function of this signature that lies there."""
    kind = types.FunctionType(signature)

    @intrinsic
    def read(typing_context: Any, address: Any) -> Any:
        def code(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
            function = cgutils.create_struct_proxy(kind)(context, builder)
            function.c_addr = function.jit_addr = builder.inttoptr(arguments[0], _BYTES)
            function.py_addr = cgutils.get_null_value(function.py_addr.type)
            return function._getvalue()

        return kind(types.int64), code

    return read


def row_reader(kind: Address) -> Any:
    """`read(tables, k)`, in compiled code: the tuple of type `kind` whose table is row k of `tables`."""

    @intrinsic
    def read(typing_context: Any, tables: Any, k: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            array = context.make_array(signature.args[0])(context, builder, value=arguments[0])
            row = context.cast(builder, arguments[1], signature.args[1], types.int64)
            width = builder.extract_value(array.shape, 1)
            return builder.bitcast(builder.gep(array.data, [builder.mul(row, width)]), _BYTES)

        return kind(tables, k), code

    return read
