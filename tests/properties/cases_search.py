"""Hypothesis strategies of verbs that run others again and again: capacity, pools, sweeps, recommendations, studies;
and folders of models."""

import json
from typing import Any

from hypothesis import strategies as st

from tests.properties import nasty
from tests.properties.cases import LOADS, SCENARIO, USUAL, loads, model_configs, toml
from tests.properties.driver import Case
from tests.properties.nasty import TEXTS, damaged, mutated, options, words

CAPACITY: dict[str, tuple[str, ...]] = {
    **{name: SCENARIO[name] for name in ("model", "system", "tp", "dp", "policy", "router", "order", "kv-format")},
    "requests": (*LOADS, *TEXTS), "goodput": ("ttft:0.5", "tpot:0.05", "ttft:1e-9", "e2el:1 ttft:1", "ttft:0", *TEXTS),
    "share": ("0.5", "1", "0"), "tolerance": ("0.5", "1", "1e-4"),
}  # fmt: skip
POOL: dict[str, tuple[str, ...]] = {
    **{name: SCENARIO[name] for name in ("model", "system", "tp", "policy", "router", "kv-format", "max-model-len")},
    "requests": (*LOADS, *TEXTS), "prefill": ("dp=2", "tp=2,dp=1", "system=h100_sxm", "policy=orca", "dp=0", *TEXTS),
    "decode": ("dp=3", "system=l4", "memory_share=0.5", "seed=3", "dp=x", "dp", *TEXTS),
    "transfer": ("layered", "u.py", *TEXTS), "latency-s": ("0.01",), "link-gbps": ("10",),
}  # fmt: skip
RULES = (
    "def left_byte(byte, num_layer, step_s, rate):\n    return byte / 2\n",
    "def left_byte(byte, num_layer, step_s, rate):\n    return -1\n",
    "def left_byte(byte, num_layer, step_s, rate):\n    return 'a'\n",
    "def left_byte():\n    return 0\n", "left_byte = 3\n", "def left_byte(*a):\n    raise KeyError(a)\n",
    "def left_byte(*a):\n    return float('nan')\n", "def left_byte(*a):\n    import sys; sys.exit(0)\n", "x", "",
)  # fmt: skip
OVER = (
    "seed=0:2:1", "seed=1,2", "policy=vllm_v1,sarathi:max_token=16", "requests.n=1,2", "requests.prompt=3:5:1",
    "requests.output.max=2", "tp=1,2", "tp=1:2:0.5", "sed=1", "seed", "seed=", "=1", ".=1", "requests.=1", "tp.x=1",
    "requests.rate=1:4:1", "policy.max_seq=1,2", "prefix_cache=true,false", "prefix_cache=maybe", "seed=3:1:1",
    "seed=0:1e18:1", "seed=0:1:0", "seed=0:nan:1", "seed=::", "seed=1;2", "model=gpt2,gpt-2", "system=a100_sxm;\x00",
    "memory_share=0.1:0.3:0.1", "watermark=-1,0.1", "speculate=,ngram", "speculate.k=1", "seed=" + "9" * 400,
    "requests=batch:n=1,prompt=2,output=2;x", "fidelity=sol,calibrated,replay", "requests.a.b.c=1",
)  # fmt: skip
SWEEP: dict[str, tuple[str, ...]] = {
    **{name: SCENARIO[name] for name in ("model", "system", "policy", "kv-format", "max-model-len", "fidelity")},
    "requests": (*LOADS, *TEXTS), "over": (*OVER, *TEXTS), "sampler": ("optuna", "grid", "x"), "trials": ("3", "0"),
    "minimise": ("p99_ttft_ms", "p99_tfft_ms"), "maximise": ("output_throughput",), "executor": ("local", "x"),
}  # fmt: skip
RECOMMEND: dict[str, tuple[str, ...]] = {
    **{name: SCENARIO[name] for name in ("model", "policy", "kv-format", "max-model-len", "fidelity")},
    "requests": (*LOADS, *TEXTS), "ttft-p99-s": ("1", "1e-6"), "tpot-p99-s": ("0.05", "1e-6"), "over": (*OVER, *TEXTS),
    "systems": ("a100_sxm", "l4,h100_sxm", "a100_sxm,a100_sxm", "neupims", "dgx_a100", *TEXTS), "tps": ("1", "1,2"),
    "max-devices": ("1", "4"), "objective": ("power", "x"), "within": ("1", "2"), "top": ("1",),
    "pools": ("mixed", "split", "mix", "mixed,split", "", *TEXTS),
}  # fmt: skip
DEPLOYED: dict[str, Any] = {
    "model": "gpt2", "requests": "batch:n=3,prompt=8,output=4",
    "pool": [{"role": "mixed", "system": "a100_sxm", "dp": 2, "share": 2}, {"system": "h100_sxm"}],
}  # fmt: skip
ROW: dict[str, Any] = {
    "system": "a", "claim": "b", "setup": "c", "paper": 1.5, "simulated": 1.4, "error": -0.07, "bound": 0.1,
    "verdict": "reproduced", "kind": "number", "assumptions": "", "seconds": 0.1,
}  # fmt: skip
STUDY = (
    "import pandas as pd\nCLAIM = 'c'\n{head}\ndef run(n: int = 1, names: tuple[str, ...] = ('a',)):\n    {body}\n"
    "def plot(frame):\n    raise ValueError\n"
)
BODIES = (
    f"return pd.DataFrame([{ROW!r}]).drop(columns='seconds').assign(seconds=n)", "return pd.DataFrame()", "return 3",
    "return 1 / 0", "raise SystemExit(4)", f"return pd.DataFrame([{ROW!r}] * n)", "raise ValueError('a\\nb')",
    f"return pd.DataFrame([{ROW!r}]).assign(paper='x')", f"return pd.DataFrame([{ROW!r}]).assign(simulated=None)",
    f"return pd.DataFrame([{ROW!r}]).assign(error=float('inf'), paper=None)",
)  # fmt: skip
HEADS = (
    "",
    "",
    "import sys",
    "CLAIM = 3",
    "del CLAIM",
    "1 / 0",
    "import nothing_of_this_name",
    "import sys; sys.exit()",
)


@st.composite
def search(draw: st.DrawFn) -> Case:
    verb = draw(st.sampled_from(("capacity", "pools", "study", "models", "deployed", "sweep", "recommend")))
    if verb == "capacity":
        chosen = draw(options(USUAL | {"goodput": "ttft:1", "tolerance": "1"}, CAPACITY))
        if draw(st.booleans()):
            chosen["requests"] = draw(loads())
        return Case((verb, *words(chosen), "--json", "o.json"), {}, ("o.json",))
    if verb == "pools":
        chosen = draw(options(USUAL, POOL))
        return Case((verb, *words(chosen), "--json", "o.json"), {"u.py": draw(st.sampled_from(RULES)).encode()},
                    ("o.json",))  # fmt: skip
    if verb == "models":
        return draw(checkpoints())
    if verb == "sweep":
        chosen = draw(options(USUAL | {"over": "seed=0:1:1"}, SWEEP))
        return Case((verb, *words(chosen), "--jobs", "1", "--json", "o.json"), {}, ("o.json",))
    if verb == "recommend":
        usual = {"model": "gpt2", "requests": LOADS[0], "ttft-p99-s": "1", "tpot-p99-s": "1", "max-devices": "2"}
        chosen = draw(options(usual, RECOMMEND))
        return Case((verb, *words(chosen), "--json", "o.json"), {}, ("o.json",))
    if verb == "deployed":
        files = {"s.toml": toml(draw(mutated(DEPLOYED)))}
        return Case(("pools", "s.toml", "--json", "o.json"), files, ("o.json",))
    if draw(st.booleans()):
        data = json.dumps(draw(mutated({"rows": [ROW, ROW | {"study": "x"}]}))).encode()
        data = data if draw(st.integers(0, 4)) else draw(damaged(data))
        pages = draw(st.sampled_from(((), ("--html", "o.html"), ("--markdown", "o.md"))))
        return Case((verb, "report", "r.json", *pages, "--json", "o.json"), {"r.json": data},
                    ("o.json", "o.html", "o.md"))  # fmt: skip
    text = STUDY.format(head=draw(st.sampled_from(HEADS)), body=draw(st.sampled_from(BODIES)))
    data = text.encode() if draw(st.integers(0, 4)) else draw(damaged(text.encode()))
    more: tuple[str, ...] = ()
    if draw(st.booleans()):
        more = (
            f"--{draw(st.sampled_from(('n', 'names', 'x')))}={draw(st.one_of(nasty.numbers, st.sampled_from(TEXTS)))}",
        )
    picture = draw(st.sampled_from(((), (), ("--plot", "o.svg"))))
    return Case((verb, "run", "./u.py", *more, *picture, "--json", "o.json"), {"u.py": data}, ("o.json",))


@st.composite
def checkpoints(draw: st.DrawFn) -> Case:
    """A folder of configurations, of which some are not."""
    files = {}
    for number in range(draw(st.integers(0, 3))):
        data = json.dumps(draw(mutated(draw(st.sampled_from(model_configs()))))).encode()
        name = draw(st.sampled_from((f"{number}.json", "config.json", "hf_quant_config.json")))
        files[name] = data if draw(st.integers(0, 4)) else draw(damaged(data))
    where = draw(st.sampled_from((".", ".", ".", "0.json", "nowhere", "", "a" * 300)))
    more = draw(st.sampled_from(((), ("--format", "fp8"), ("--format", "w4a16:kv=fp8"), ("--format", "x"))))
    out = draw(st.sampled_from((("--json", "o.txt"), ())))  # `.json` would be read as one of them
    return Case(("models", "--check", where, *more, *out), files, ("o.txt",))
