"""Arguments out of a text: a command line, a shell script that builds one, or a YAML mapping of them.

Of a script only assignments of plain values and the words that begin with `--` are read, in every branch of it: what
two branches give differently is refused. Of YAML: keys and plain values, whatever sections they stand in.
"""

import re
import shlex
from collections.abc import Mapping
from typing import Any

from kernels.errors import InputError

ASSIGN = re.compile(r"^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(?!\()(.*)$")
MAX_LINE = 1 << 16
LIST = re.compile(r"^\s*[A-Za-z_][A-Za-z0-9_]*\+?=\(")
VARIABLE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}?")
YAML = re.compile(r"^\s*(--)?([A-Za-z][A-Za-z0-9_-]*)\s*:(?:\s+(.*))?$")


def flatten(content: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Values by their path, sections joined by a dot.

    >>> flatten({"training": {"steps": 10, "seq_len": 8192}})
    {'training.steps': 10, 'training.seq_len': 8192}
    """
    out: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            out |= flatten(value, f"{above}{key}.")
        else:
            out[f"{above}{key}"] = value
    return out


def arguments(text: str, file: Any) -> dict[str, Any]:
    """Arguments by name, without dashes before and with dashes inside; a switch is True, several words a text.

    >>> arguments("TP=8\\npretrain.py --bf16 --tensor-model-parallel-size $TP \\\\\\n --recompute-modules mlp moe", "")
    {'bf16': True, 'tensor-model-parallel-size': '8', 'recompute-modules': 'mlp moe'}
    """
    lines = text.replace("\\\n", " ").splitlines()
    written = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if written and all(YAML.match(line) or re.match(r"^\s*- ", line) for line in written):
        return _yaml(written, file)
    known: dict[str, str] = {}
    words: list[str] = []
    for line in written:
        if len(_filled(line, known)) > MAX_LINE:  # variables that double one another
            raise InputError("a line too long, its variables filled in", file=file, field="line", value=line,
                             allowed=f"{MAX_LINE} characters")  # fmt: skip
        assigned = ASSIGN.match(line)
        try:
            if assigned:
                known[assigned[1]] = " ".join(shlex.split(_filled(assigned[2], known), comments=True))
                continue
            plain = LIST.sub(" ; ", line).rstrip()
            plain = f"{plain[:-1]} ;" if plain.endswith(")") and "(" not in plain else plain
            words += shlex.split(_filled(plain, known), comments=True)
        except ValueError:  # a quotation over several lines: none of our arguments
            continue
    parts = [part for word in words for part in (word.split() if word.startswith("--") else [word])]
    return _pairs(parts, file)


def _filled(line: str, known: Mapping[str, str]) -> str:
    """The line with its variables; those that are not assigned in the file stay as they are written."""
    return VARIABLE.sub(lambda found: known.get(found[1], found[2] if found[2] is not None else found[0]), line)


def _pairs(words: list[str], file: Any) -> dict[str, Any]:
    out: dict[str, Any] = {}
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if not word.startswith("--") or len(word) < 3:
            continue
        name, _, inline = word[2:].partition("=")
        values = [inline] if inline else []
        while at < len(words) and not inline and not words[at].startswith("--") and not _ends(words[at]):
            values.append(words[at])
            at += 1
        _put(out, name.replace("_", "-"), " ".join(values) if values else True, file)
    return out


def _ends(word: str) -> bool:
    """Whether a word is the script's own, or the program that the arguments are for."""
    return word in (";", "|", "&&", "fi", "else", "then", "done", "esac") or word.endswith((".py", ";")) or (
        word.startswith("${") and word.endswith("}")
    )  # fmt: skip


def _yaml(lines: list[str], file: Any) -> dict[str, Any]:
    out: dict[str, Any] = {}
    found_all = [found for found in map(YAML.match, lines) if found and found[3] is not None]  # no sections, no items
    dashed = any(found[1] for found in found_all)  # then keys without dashes are somebody else's
    for found in found_all:
        if dashed and not found[1]:
            continue
        value: Any = found[3].split(" #")[0].strip()
        if value[:1] == value[-1:] and value[:1] in ("'", '"') and len(value) > 1:
            value = value[1:-1]
        if value[:1] == "[" and value[-1:] == "]":
            value = value[1:-1].replace(",", " ")
        _put(out, found[2].replace("_", "-"), {"true": True, "false": False}.get(value.lower(), value), file)
    return out


def _put(out: dict[str, Any], name: str, value: Any, file: Any) -> None:
    if name in out and out[name] != value:
        raise InputError("is given twice, differently", file=file, field=name, value=f"{out[name]} and {value}")
    out[name] = value
