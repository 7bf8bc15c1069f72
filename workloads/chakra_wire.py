"""The protobuf wire format of the few message types of a Chakra execution trace, both ways.

A field is a key (number and wire type) and a value: a variable-length integer, 4 or 8 bytes, or a length and that many
bytes. Numbers and types are those of the Chakra schema (`et_def.proto`, package ChakraProtoMsg); a field that is not in
it is skipped, as protobuf does.
"""

import struct
from collections.abc import Iterator
from typing import Any

VARINT, EIGHT, LENGTH, FOUR = 0, 1, 2, 5

SCALARS: tuple[str, ...] = (
    "double", "float", "int32", "int64", "uint32", "uint64", "sint32", "sint64",
    "fixed32", "fixed64", "sfixed32", "sfixed64", "bool", "string", "bytes",
)  # fmt: skip
"""Types of an attribute's value; the k-th has field 3 + 2k of the attribute, a list of it 4 + 2k."""
_FIXED = {"double": "<d", "float": "<f", "fixed32": "<I", "fixed64": "<Q", "sfixed32": "<i", "sfixed64": "<q"}
_BITS = {"int32": 64, "int64": 64, "uint32": 32, "uint64": 64, "sint32": 32, "sint64": 64, "bool": 1}
RANGE = {
    "int32": (-(2**31), 2**31), "sint32": (-(2**31), 2**31), "sfixed32": (-(2**31), 2**31),
    "int64": (-(2**63), 2**63), "sint64": (-(2**63), 2**63), "sfixed64": (-(2**63), 2**63),
    "uint32": (0, 2**32), "fixed32": (0, 2**32), "uint64": (0, 2**64), "fixed64": (0, 2**64),
}  # fmt: skip


class WireError(ValueError):
    """Bytes that are no such message."""


def varint(value: int) -> bytes:
    """An unsigned integer, seven bits a byte, low first; a negative one as its 64-bit two's complement.

    >>> varint(300).hex(), len(varint(-1))
    ('ac02', 10)
    """
    value &= 2**64 - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The integer that begins at `at`, and where it ends."""
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise WireError("an integer without an end")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value & (2**64 - 1), at
        shift += 7


def field(number: int, wire: int, body: bytes) -> bytes:
    """A field with its key; `body` of wire type `LENGTH` gets its length."""
    key = varint(number << 3 | wire)
    return key + varint(len(body)) + body if wire == LENGTH else key + body


def fields(data: bytes) -> Iterator[tuple[int, int, Any]]:
    """(number, wire type, value) of every field: an int for `VARINT`, bytes otherwise."""
    at = 0
    while at < len(data):
        key, at = read_varint(data, at)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise WireError("a field without a number")
        if wire == VARINT:
            value: Any
            value, at = read_varint(data, at)
        else:
            if wire == LENGTH:
                size, at = read_varint(data, at)
            elif wire in (EIGHT, FOUR):
                size = 8 if wire == EIGHT else 4
            else:
                raise WireError(f"wire type {wire}")
            if at + size > len(data):
                raise WireError(f"{size} bytes announced, {len(data) - at} there")
            value, at = data[at : at + size], at + size
        yield number, wire, value


def wire_type(scalar: str) -> int:
    """The wire type of a single value."""
    if scalar in _FIXED:
        return EIGHT if _FIXED[scalar] in ("<d", "<Q", "<q") else FOUR
    return LENGTH if scalar in ("string", "bytes") else VARINT


def encode(scalar: str, value: Any) -> bytes:
    """The bytes of one value, without key and length."""
    if scalar in _FIXED:
        return struct.pack(_FIXED[scalar], value)
    if scalar == "string":
        return str(value).encode()
    if scalar == "bytes":
        return bytes(value)
    if scalar.startswith("sint"):
        value = value << 1 if value >= 0 else (-value << 1) - 1
    return varint(int(value))


def decode(scalar: str, raw: Any) -> Any:
    """The value of what `fields` gave for one of this type; `WireError` for what was written as another."""
    if isinstance(raw, int) != (wire_type(scalar) == VARINT):
        raise WireError(f"{'a number' if isinstance(raw, int) else 'bytes'} where {scalar} belongs")
    if scalar in _FIXED and len(raw) != struct.calcsize(_FIXED[scalar]):
        raise WireError(f"{len(raw)} bytes where {scalar} belongs")
    if scalar in _FIXED:
        return struct.unpack(_FIXED[scalar], raw)[0]
    if scalar == "string":
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise WireError(f"text that is not UTF-8: {error}") from None
    if scalar == "bytes":
        return bytes(raw)
    value = int(raw) & ((1 << _BITS[scalar]) - 1) if scalar != "bool" else int(raw != 0)
    if scalar == "bool":
        return bool(value)
    if scalar.startswith("sint"):
        return value >> 1 if not value & 1 else -(value + 1 >> 1)
    if scalar in ("int32", "int64"):
        value -= 2**64 if value >= 2**63 else 0
        return value if scalar == "int64" else (value + 2**31) % 2**32 - 2**31
    return value


def encode_list(number: int, scalar: str, values: Any) -> bytes:
    """A repeated field: numbers packed into one, texts one by one."""
    if wire_type(scalar) == LENGTH:
        return b"".join(field(number, LENGTH, encode(scalar, value)) for value in values)
    body = b"".join(encode(scalar, value) for value in values)
    return field(number, LENGTH, body) if body else b""


def decode_list(scalar: str, wire: int, raw: Any) -> list[Any]:
    """The values of one occurrence of a repeated field, packed or not."""
    own = wire_type(scalar)
    if own == LENGTH or wire != LENGTH:
        return [decode(scalar, raw)]
    if own == VARINT:
        values, at = [], 0
        while at < len(raw):
            value, at = read_varint(raw, at)
            values.append(decode(scalar, value))
        return values
    size = 8 if own == EIGHT else 4
    if len(raw) % size:
        raise WireError(f"{len(raw)} bytes of values of {size}")
    return [decode(scalar, raw[i : i + size]) for i in range(0, len(raw), size)]
