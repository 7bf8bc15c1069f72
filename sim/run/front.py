"""A serving engine's own command line as a scenario: every flag is used, has no effect on time, or is refused by name.

What each flag is stands in a table an engine, `sim/run/fronts/<engine>.toml`; what one flag alone cannot say (whether
data parallel ranks share experts, say) in `sim.run.front_rules`.
"""

import contextlib
import dataclasses
import functools
import pathlib
import re
import shlex
from collections.abc import Iterator
from typing import Any

from kernels.errors import InputError
from sim.run.scenario import read_toml

FOLDER = pathlib.Path(__file__).parent / "fronts"
KINDS = ("switch", "value", "many")
FACTOR = {"k": 1000, "m": 10**6, "g": 10**9, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}  # of vLLM's readable numbers
ENVIRONMENT = (
    "CUDA_VISIBLE_DEVICES", "HF_", "HUGGING", "TOKENIZERS_", "OMP_", "NCCL_DEBUG", "PYTHON", "RAY_", "VLLM_USE_V1=1",
    "VLLM_LOGGING_LEVEL",
)  # fmt: skip
"""What chooses devices, caches and logs, or vLLM's scheduler that is simulated anyway."""


@dataclasses.dataclass(frozen=True)
class Front:
    """What a command line says: fields of a scenario, which flag each came from, and sentences on what was left out."""

    engine: str
    fields: dict[str, Any]
    flag_of: dict[str, str]
    notes: tuple[str, ...]

    def fields_with(self, given: dict[str, Any]) -> dict[str, Any]:
        """The fields, and those that are given beside; an `InputError` where the two differ."""
        for name, value in given.items():
            if name in self.fields and name in self.flag_of and self.fields[name] != value:
                raise InputError(f"{self.flag_of[name]} says {self.fields[name]}", field=name, value=value,
                                 allowed="one of the two")  # fmt: skip
        return {**self.fields, **given}

    @contextlib.contextmanager
    def named(self) -> Iterator[None]:
        """Errors about a field that a flag set name the flag."""
        try:
            yield
        except InputError as error:
            flag = self.flag_of.get(error.field or "")
            if flag is None:
                raise
            raise type(error)(f"{flag} of the {self.engine} command: {error}") from None


def engines() -> list[str]:
    """The engines whose command lines are read."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read_command(engine: str, command: str, given: dict[str, Any] | None = None) -> Front:
    """The scenario that an engine's command line says. `given`: fields that are given beside it.

    >>> line = "vllm serve Qwen/Qwen3-32B -tp 4 --max-num-seqs 128 --port 8000"
    >>> front = read_command("vllm", line, {"system": "dgx_h100"})
    >>> front.fields["tp"], front.fields["max_num_seq"], front.fields["model"]
    (4, 128, 'Qwen/Qwen3-32B')
    >>> front.notes
    ('--port: no effect on time (where the server listens and what it answers to)',)
    >>> read_command("vllm", "vllm serve gpt2 --max-num-seq 4")
    Traceback (most recent call last):
    ...
    kernels.errors.InputError: from_vllm = '--max-num-seq': no such flag of vLLM; ... (nearest: --max-num-seqs)
    """
    from sim.run.front_rules import settle

    if engine not in engines():
        raise InputError("no such front", field="engine", value=engine, allowed=engines())
    table = _table(engine)
    values, flag_of, ignored = _parsed(engine, table, _words(engine, table, command))
    notes = [f"{', '.join(flags)}: no effect on time ({why})" for why, flags in ignored.items()]
    fields, flags, said = settle(engine, values, flag_of, given or {})
    fields = {"engine": table["engine"], **fields}
    return Front(table["title"], fields, flags, (*said, *notes))


@functools.cache
def _table(engine: str) -> dict[str, Any]:
    """The table of an engine, with `flags`: of each spelling what it is and which entry says so."""
    table = read_toml(FOLDER / f"{engine}.toml")
    flags: dict[str, tuple[str, dict[str, Any]]] = {}
    for entry in table["used"]:
        flags |= dict.fromkeys(entry["flag"], ("switch" if entry["kind"] == "switch" else "value", entry))
    for part in ("no_effect", "refused"):
        for entry in table[part]:
            for kind in KINDS:
                flags |= dict.fromkeys(entry.get(kind, ()), (kind, entry | {"part": part}))
    return table | {"flags": flags}


def _words(engine: str, table: dict[str, Any], command: str) -> list[str]:
    """The words after the command itself; settings of the environment before it are told apart."""
    field = f"from_{engine}"
    try:
        words = shlex.split(command.replace("\\\n", " "), comments=True)
    except ValueError as error:
        raise InputError(f"cannot be split into words: {error}", field=field, value=command) from None
    while words and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*=.*", words[0]):
        if not words[0].startswith(ENVIRONMENT):
            raise InputError("a setting of the environment that nobody reads here", field=field, value=words[0],
                             allowed="none, or what chooses devices, caches and logs")  # fmt: skip
        words = words[1:]
    if words and re.fullmatch(r"(.*/)?python[0-9.]*", words[0]):
        words[0] = "python"
    beside = any(words[: len(other.split())] == other.split() for other in table.get("other", ()))
    for start in (spelling.split() for spelling in table["command"]):
        if words[: len(start)] == start and not beside:
            return words[len(start) :]
    raise InputError(f"not a command of {table['title']}", field=field, value=" ".join(words[:3]),
                     allowed=[f"{spelling} ..." for spelling in table["command"]])  # fmt: skip


def _parsed(
    engine: str, table: dict[str, Any], words: list[str]
) -> tuple[dict[str, Any], dict[str, str], dict[str, list[str]]]:  # fmt: skip
    """Values of the fields, the flag of each, and what has no effect, by reason."""
    flags, field = table["flags"], f"from_{engine}"
    values: dict[str, Any] = {}
    flag_of: dict[str, str] = {}
    ignored: dict[str, list[str]] = {}
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            if "model" in values:
                raise InputError("neither a flag nor the value of one", field=field, value=word)
            values["model"], flag_of["model"] = word, "the model"
            continue
        name, equals, inline = word.partition("=")
        if "-O" in flags and re.fullmatch(r"-O\d", word):  # as compilers write it
            name, equals, inline = "-O", "=", word[2:]
        flag, off = _known(table, name, field)
        kind, entry = flags[flag]
        if flag != name and "." in name and "field" in entry:
            raise InputError(f"one of its parts: give them together, {flag} '{{...}}'", field=field, value=name)
        taken = [inline] if equals else _taken(kind, words)
        if (kind == "switch") == bool(taken) and kind != "many":
            message = "takes no value" if taken else "needs a value"
            raise InputError(f"{flag} {message}", field=field, value=" ".join([name, *taken]))
        if "field" in entry:
            if entry["field"] in values:
                raise InputError("given twice", field=flag, value=" ".join(taken) or word)
            values[entry["field"]] = not off if kind == "switch" else _value(entry, flag, taken[0], table["title"])
            flag_of[entry["field"]] = flag
        elif entry["part"] == "no_effect" or (taken and taken[0] in entry.get("neutral", {}).get(flag, ())):
            why = entry["why"] if entry["part"] == "no_effect" else "its neutral value"
            ignored.setdefault(why, []).append(name)
        elif off and kind == "switch":
            ignored.setdefault("as where it is not given", []).append(name)
        else:
            raise InputError(f"is not simulated: {entry['why']}", field=name, value=" ".join(taken) or True)
    return values, flag_of, ignored


def _known(table: dict[str, Any], name: str, field: str) -> tuple[str, bool]:
    """The flag as the table spells it, and whether it is switched off."""
    flags = table["flags"]
    tries = [name, name.replace("_", "-") if table["negation"] else name]
    if "." in name:  # a part of what is given as JSON: `--kernel-config.moe_backend triton`
        tries.append(tries[-1].partition(".")[0])
    for one in tries:
        if one in flags:
            return one, False
        off = table["negation"]
        if off and one.startswith(off) and f"--{one.removeprefix(off)}" in flags:
            positive = f"--{one.removeprefix(off)}"
            if flags[positive][0] == "switch":
                return positive, True
    raise InputError(f"no such flag of {table['title']}", field=field, value=name, allowed=sorted(flags))


def _taken(kind: str, words: list[str]) -> list[str]:
    """The values that follow a flag, taken off the words."""
    if kind == "value" and words and (not words[0].startswith("--") or words[0] == "--"):
        return [words.pop(0)]
    found = []
    while kind == "many" and words and not words[0].startswith("-"):
        found.append(words.pop(0))
    return found


def _value(entry: dict[str, Any], flag: str, text: str, title: str) -> Any:
    """A value in the type of its field."""
    known = entry.get("map", {})
    if text in known:
        return int(known[text]) if entry["kind"] == "human" else known[text]
    if entry["kind"] == "word":
        raise InputError(f"no value of {title}'s that is simulated", field=flag, value=text, allowed=list(known))
    if entry["kind"] == "text":
        return text
    pattern = r"(\d+(?:\.\d+)?)([kmgKMG])" if entry["kind"] == "human" else r"(?!)"
    if match := re.fullmatch(pattern, text):
        number = float(match[1]) * FACTOR[match[2]]
        if number.is_integer():
            return int(number)
    try:
        return float(text) if entry["kind"] == "float" else int(text)
    except ValueError:
        wanted = "a number" if entry["kind"] == "float" else "a whole number"
        raise InputError(f"not {wanted}", field=flag, value=text) from None
