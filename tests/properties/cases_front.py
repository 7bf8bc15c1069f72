"""Hypothesis strategies of the front door: command lines of other engines, exports, pages, and recorded baselines."""

import contextlib
import functools
import io
import json
import os
import pathlib
import tempfile
import tomllib
from typing import Any

from hypothesis import strategies as st

import sim.run
from sim.cli import main
from tests.properties import nasty
from tests.properties.cases import LOADS, loads, toml
from tests.properties.driver import Case
from tests.properties.nasty import TEXTS, damaged, mutated

FRONTS = {"vllm": "vllm serve", "sglang": "python -m sglang.launch_server --model-path", "trtllm": "trtllm-serve"}
GIVEN = (
    "1", "2", "8", "0.5", "auto", "fp8", "bfloat16", "true", "{}", "'{\"a\": 1}'", "'{'", "mp", "fcfs", "priority",
    "16k", "'a b'", "gpt2",
)  # fmt: skip
LINES = (
    "", "vllm", "vllm serve", "vllm serve --model", "vllm serve gpt2 extra", "sglang", "trtllm-serve", "'", '"',
    "vllm serve gpt2 --", "vllm serve gpt2 --tensor-parallel-size", "vllm bench serve gpt2", "A=1 vllm serve gpt2",
    "vllm serve gpt2 -tp 1 -tp 2", "vllm serve gpt2 --tensor-parallel-size=", "cd /; vllm serve gpt2",
    "vllm serve gpt2 \\", "vllm serve gpt2 --max-model-len 1e3", "vllm serve gpt2 --max-model-len -1",
    "vllm serve gpt2 | cat", "$(vllm)",
)  # fmt: skip
EXPORTS = (
    "vllm", "aiperf", "llm_d", "inferencex", "prometheus", "vllm_serve", "sglang_serve", "trtllm_serve", "kubernetes",
)  # fmt: skip
MORE = (
    (), ("--relative", "0.5"), ("--absolute", "nan"), ("--relative", "-1"), ("--worse-only",), ("--only", "s"),
    ("--only", "x"), ("--record",), ("--junit", "o.xml"), ("--markdown", "o.md"),
)  # fmt: skip
SMALL: dict[str, Any] = {"model": "gpt2", "system": "a100_sxm", "requests": LOADS[0]}


@functools.cache
def flags(front: str) -> tuple[str, ...]:
    """Every spelling that a front knows."""
    file = pathlib.Path(sim.run.__file__).parent / "fronts" / f"{front}.toml"
    table = tomllib.loads(file.read_text())
    return tuple(flag for rows in table.values() if isinstance(rows, list) for row in rows if isinstance(row, dict)
                 for flag in row.get("flag", ()))  # fmt: skip


@st.composite
def lines(draw: st.DrawFn, front: str) -> str:
    """A server's command line with a few of its flags."""
    if not draw(st.integers(0, 7)):
        return str(draw(st.sampled_from((*LINES, *TEXTS))))
    said = [FRONTS[front], draw(st.sampled_from(("gpt2", "gpt2", "gpt2", "openai-community/gpt2", *TEXTS)))]
    for _ in range(draw(st.integers(0, 3))):
        said.append(draw(st.sampled_from(flags(front))))
        if draw(st.integers(0, 4)):
            said.append(draw(st.one_of(st.sampled_from(GIVEN), nasty.numbers)))
    return " ".join(said)


@functools.cache
def baseline() -> dict[str, Any]:
    """What `regress --record` writes of a small run."""
    here = os.getcwd()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        os.chdir(folder)
        try:
            pathlib.Path("s.toml").write_bytes(toml(SMALL))
            assert main(["regress", "--baseline", "b.json", "--record", "s.toml"]) == 0
            return dict(json.loads(pathlib.Path("b.json").read_bytes()))
        finally:
            os.chdir(here)


@st.composite
def front(draw: st.DrawFn) -> Case:
    what = draw(st.sampled_from(("line", "line", "line", "export", "export", "regress", "columns")))
    if what == "line":
        name = draw(st.sampled_from(sorted(FRONTS)))
        words = [f"--from-{name}", draw(lines(name)), "--system", draw(st.sampled_from(("a100_sxm", "l4", *TEXTS)))]
        words += ["--requests", draw(st.one_of(st.sampled_from(LOADS), loads())), "--json", "o.json"]
        return Case(("simulate", *words), {}, ("o.json",))
    if what == "export":
        held = SMALL | {"requests": draw(st.one_of(st.sampled_from(LOADS), loads()))}
        words = [word for name, value in held.items() for word in (f"--{name}", value)]
        for number in range(draw(st.integers(1, 3))):
            format_name = draw(st.sampled_from((*EXPORTS, *EXPORTS, *TEXTS)))
            words += ["--export", f"{format_name}=o{number}.txt"]
        if draw(st.booleans()):
            words += ["--html", draw(st.sampled_from(("o0.txt", "o.html", "", "/dev/null")))]
        if not draw(st.integers(0, 3)):
            words += ["--goodput", draw(st.sampled_from(("ttft:1", "ttft:0.001 e2el:1", "x:1", "ttft")))]
        return Case(("simulate", *words), {}, ("o0.txt", "o1.txt", "o2.txt", "o.html"))
    if what == "columns":
        return Case(
            ("columns", draw(st.sampled_from(("--json", "requests", "steps", *TEXTS))), "o.json"), {}, ("o.json",)
        )
    held = baseline()
    for entry in held["entry"]:
        entry["scenario"] = SMALL
    data = json.dumps(draw(mutated(held))).encode()
    data = data if draw(st.integers(0, 4)) else draw(damaged(data))
    more = draw(st.sampled_from(MORE))
    outputs = ("o.json", "o.xml", "o.md", *(("b.json",) if more == ("--record",) else ()))
    return Case(("regress", "--baseline", "b.json", *more, "--json", "o.json"), {"b.json": data}, outputs, (0, 1, 2, 3))
