"""Files of JSON in which a value, a field or a whole object is something else: read, or refused in one line."""

import contextlib
import json
import pathlib
import random
from typing import Any

import pytest

from kernels.errors import InputError
from tests.workloads.trace_files import FILES, OPTION, OTHER_FORMS
from workloads.load import load_requests

NASTY: list[Any] = [None, True, "", "x", "-1", -1, 0, 1e308, 10**30, 2**63, -0.5, [], {}, [None], {"a": 1}, [[1]],
                    "\ud800", float("nan"), float("inf"), "9" * 5000, 1759813207000000000]  # fmt: skip
TEXTS = {
    name: [text, *OTHER_FORMS.get(name, ())] for name, text in FILES.items() if text.lstrip().startswith(("{", "["))
}


def mutated(value: Any, rng: random.Random) -> Any:
    """The value with one place in it changed, taken out or doubled."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        if rng.random() < 0.15:
            return {name: item for name, item in value.items() if name != key}
        return value | {key: mutated(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        at = rng.randrange(len(value))
        if rng.random() < 0.15:
            return value[:at] + value[at + 1 :]
        return [*value[:at], mutated(value[at], rng), *value[at + 1 :]]
    return rng.choice(NASTY)


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_mutated_files_are_read_or_are_input_errors(tmp_path: pathlib.Path, name: str) -> None:
    path = tmp_path / "t"
    for seed in range(120):
        rng = random.Random(f"{name} {seed}")
        text = rng.choice(TEXTS[name])
        is_lines = text.count("\n") > 0
        rows = [json.loads(line) for line in text.splitlines()] if is_lines else json.loads(text)
        for _ in range(rng.randrange(1, 3)):
            rows = mutated(rows, rng)
        parts = rows if is_lines and isinstance(rows, list) else [rows]
        path.write_text("".join(json.dumps(row) + "\n" for row in parts))
        asked = ",char_per_token=4" if name == "mooncake" and '"messages"' in text else OPTION.get(name, "")
        option = asked if rng.random() < 0.8 else ""
        run = ",run=1" if name in ("sglang_bench", "guidellm", "genai_perf") and rng.random() < 0.5 else ""
        for source in (f"{name}:{path}{option}{run}", f"{path}{option}"):
            with contextlib.suppress(InputError):
                assert len(load_requests(source)) >= 1
