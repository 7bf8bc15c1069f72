"""Values that break programs, and strategies that put them into what was well formed."""

import copy
import gzip
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

NUMBERS = (
    "0", "-1", "1", "2", "3", "-0", "0.5", "1.5", "1e300", "-1e300", "nan", "inf", "-inf", "1e-320", "1e400",
    "9223372036854775807", "9223372036854775808", "-9223372036854775808", "2147483647", "2147483648", "4294967296",
    "65536", "", "abc", "1_000", "\uff11", "0x10", "+5", "3 ", "True", "null", "1e3", "-0.0", "9" * 400, "9" * 5000,
)  # fmt: skip
"""Numbers as a user may type them."""
TEXTS = (
    "", "x", "=1+1", "@SUM(A1)", "a" * 300, "../up", "\u00fc", "\U0001f642", "a\nb", "a,b", "%s%n", "{0}",
    "$x^{2$", "\\",
    "-", "--json", ".", "/", "/dev/null", "/dev/zero", "nan", "\x1b[31mred", "a\tb", "none.toml", "a\rb", "'", '"',
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 3, 7, 2**31 - 1, 2**31, 2**63 - 1, 2**63, -(2**63), 10**30, 10**400, 0.0, 0.5, -0.5,
    1e308, -1e308, 1e-320, float("nan"), float("inf"), -float("inf"), [], {}, [[]], [0], {"a": 1}, "0", "1e999",
    *TEXTS,
)  # fmt: skip
"""Values of JSON and TOML."""

numbers = st.one_of(st.sampled_from(NUMBERS), st.integers(-10, 100).map(str), st.floats(-10, 100).map(repr))
values = st.sampled_from(VALUES).map(copy.deepcopy)


@st.composite
def mutated(draw: st.DrawFn, value: Any, most: int = 3) -> Any:
    """A copy of a nested value in which up to `most` places were replaced, removed, doubled or added to."""
    result = [copy.deepcopy(value)]
    for _ in range(draw(st.integers(1, most))):
        parent: Any = result
        key: Any = 0
        while isinstance(parent[key], dict | list) and parent[key] and draw(st.integers(0, 3)):
            parent = parent[key]
            key = draw(st.sampled_from(sorted(parent, key=str) if isinstance(parent, dict) else range(len(parent))))
        what = draw(st.sampled_from(("replace", "replace", "replace", "remove", "add", "rename", "double")))
        if what == "replace" or parent is result:
            parent[key] = draw(values)
        elif what == "remove":
            del parent[key]
        elif what == "double" and isinstance(parent, list):
            parent.insert(key, copy.deepcopy(parent[key]))
        elif isinstance(parent, dict):
            parent[draw(st.sampled_from(("x", "", "a" * 300, "=1", "id", "n")))] = draw(values)
            if what == "rename":
                parent.pop(key, None)
        else:
            parent.append(draw(values))
    return result[0]


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Bytes of which a part is cut, changed, doubled, packed or put in the wrong encoding."""
    what = draw(st.sampled_from(("cut", "flip", "insert", "double", "gzip", "half gzip", "bom", "utf-16", "digits")))
    at = draw(st.integers(0, max(len(data) - 1, 0)))
    if what == "cut":
        return data[:at]
    if what == "flip":
        return data[:at] + bytes([draw(st.integers(0, 255))]) + data[at + 1 :]
    if what == "insert":
        extra = draw(
            st.sampled_from((b"\0", b"\xff", b"[" * 3000, b"{", b"\n", b",", b'"', b"=1+1", b"9" * 5000, b"-", b"NaN"))
        )
        return data[:at] + extra + data[at:]
    if what == "double":
        return data + data[at:]
    if what == "gzip":
        return gzip.compress(data, 1)
    if what == "half gzip":
        return gzip.compress(data, 1)[: at + 1]
    if what == "bom":
        return b"\xef\xbb\xbf" + data
    if what == "utf-16":
        return data.decode(errors="replace").encode("utf-16")
    return data[:at] + b"9" * draw(st.integers(1, 400)) + data[at:]


@st.composite
def options(draw: st.DrawFn, usual: dict[str, str], odd: dict[str, Sequence[str]], most: int = 3) -> dict[str, str]:
    """Options by name: `usual` ones, of which a few are changed to one of their `odd` values or a nasty number."""
    given_options = dict(usual)
    for name in draw(st.lists(st.sampled_from(sorted(odd)), min_size=1, max_size=most, unique=True)):
        good = [choice for choice in odd[name] if choice not in TEXTS]
        what = draw(st.integers(0, 5))
        if good and what < 4:
            given_options[name] = draw(st.sampled_from(good))
        else:
            given_options[name] = draw(st.sampled_from(TEXTS) if what == 4 and len(good) < len(odd[name]) else numbers)
    return given_options


def words(given_options: dict[str, str]) -> list[str]:
    """Options as words; an empty value of a switch is the switch alone."""
    return [f"--{name}" if value is SWITCH else f"--{name}={value}" for name, value in given_options.items()]


SWITCH = "\0switch"
