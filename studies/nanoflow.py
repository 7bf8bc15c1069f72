"""What do products, decode attention and collectives gain side by side on one device? (NanoFlow, Zhu et al., 2024)"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from hw_models.co_run import beside_s
from hw_models.device import cost
from kernels.optable import ATTN_PREFILL, GEMM, MOE, empty
from sim.run.scenario import Scenario
from sim.run.simulate import simulate
from studies._panels import Panel, panels
from studies._steps import arrays
from studies._verdict import frame, order, point, row
from workloads import models, placement
from workloads.formats import parse
from workloads.lowering import Plan, lower_step
from workloads.models.spec import ModelSpec
from workloads.placement import Placement
from workloads.rows import Rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "NanoFlow (Zhu et al. 2024): 1,286 tokens/s a GPU on Llama-2-70B, 1.91x TensorRT-LLM and 4.18x vLLM on traces"
# tokens a second and GPU of Llama-2-70B on 8 A100: prompt, output (means of traces), as published
LOADS: dict[str, tuple[int, int, float]] = {
    "512 in, 512 out": (512, 512, 1286),
    "1024 in, 512 out": (1024, 512, 1263),
    "Splitwise": (1155, 211, 1259),
    "ShareGPT": (299, 324, 1272),
}
# traces of the averages: mean and standard deviation of prompts, of outputs (table 4)
TRACES = {"Splitwise": (1155, 1109, 211, 163), "LMSYS": (102, 169, 222, 210), "ShareGPT": (246, 547, 322, 244)}
OTHERS = {"llama-3-70b": (8, 1306), "mixtral-8x7b": (8, 6564), "llama-3-8b": (1, 12756)}  # 1,024 in, 512 out
# tokens of the nano-batches, from the authors' configurations (`nanobatch_1_size` and what is left of the batch)
NANO = {"llama-2-70b": (640, 1408), "llama-3-70b": (640, 1408), "llama-3-8b": (384, 640), "mixtral-8x7b": (2048, 2048)}
# engines of the ratios: profile and policy. vLLM 0.5.3 runs prompts first and 256 sequences at the most, by its
# defaults; of TensorRT-LLM 0.8.0 in-flight batching is all that is said
ENGINES = {
    "TensorRT-LLM": (1.91, [("trtllm_2024_a100_sxm_40gb", f"trtllm:max_seq={most}") for most in (256, 2048)]),
    "vLLM": (4.18, [(host, "vllm_v0:max_seq=256") for host in ("vllm_2024_a100_sxm_40gb", "vllm_2023_a100")]),
}
TOTAL, MODEL = "tokens/s a GPU, Llama-2-70B", "tokens/s a GPU, 1024 in, 512 out"
LOST, GAIN, RATIO = "lost to smaller batches", "gain over whole batches in turn", "rate on traces over, mean of three"
OPEN = (
    "steady state: prompts and decodes of a step in the load's proportion, decodes half done; kernels side by side by "
    "the paper's table of what one leaves to another; no waiting of one nano-batch for another, no host time"
)
MISS = (
    "collectives of 16 to 24 MB are priced 25 % over NCCL's own measured ones where it changes its protocol, and the "
    "authors' are direct copies (MSCCL++): tried at their 300 us each, the rate rises by 8 %"
)
KERNELS = (
    "the paper's own figures are two (5,188 and 6,564); experts' rows are one product, as a grouped kernel has them at "
    "its best, or one for each expert; tried: vLLM's Triton kernel as measured, 3,871 tokens/s"
)
DRAWN = "the text's numbers; the bars of its figure 9 are 1,446 over 1,273 and 1,277 over 1,048, 1.14 and 1.22"
ENGINE = {
    "TensorRT-LLM": "host of that year's offline batches on an A100, over batches of at most 256 and 2,048",
    "vLLM": "over the host of 2024's offline batches on an A100 and of 2023's on eight, which makes the published "
    "rates of vLLM (484 on Splitwise, 255 on ShareGPT; here 433 and 255): 256 sequences at once are beyond the batches "
    "that the later one was fitted on, up to 64",
}
LOAD = "15,000 requests at once, as the authors' scripts make, lognormal of the published moments"
SMALL = {"loads": ("512 in, 512 out", "ShareGPT"), "others": ("llama-3-8b",), "num": 1000}


class Demand(NamedTuple):
    """Seconds that a step's operators take of each engine, one kind after another."""

    compute: float
    memory: float
    network: float

    @property
    def in_turn(self) -> float:
        return sum(self)

    @property
    def beside(self) -> float:
        """Side by side, each at what the others leave it."""
        return beside_s(*self)


def demand(model: str, num: int, prompt: int, output: int, parts: tuple[int, ...], launches: int = 1) -> Demand:
    """Demands of a step in nano-batches of so many tokens each, one number for the whole batch."""
    each = [_demand(model, num, prompt, output, size, launches) for size in parts]
    return Demand(*map(sum, zip(*each, strict=True)))


def _demand(model: str, num: int, prompt: int, output: int, size: int, launches: int) -> Demand:
    spec = models.load(model)
    decodes = round(size * output / (prompt + output))
    prompts, left = divmod(size - decodes, prompt)
    query = [prompt] * prompts + [left] * (left > 0) + [1] * decodes
    keys = [prompt] * prompts + [left] * (left > 0) + [prompt + output // 2] * decodes
    decode = np.arange(len(query)) >= len(query) - decodes
    plan = Plan(np.array(query, np.int64), np.array(keys, np.int64), decode, np.ones(len(query), np.int64))
    ops, work = lower_step(spec, parse("fp16"), placement.make(spec, tp=num), 0, plan)
    second = cost(ops, work, arrays("dgx_a100", num))["time_ps"] * 1e-12
    network = ops["link_byte"] > 0
    expert = ops["kind"] == MOE
    compute = ~network & ~expert & np.isin(ops["kind"], (GEMM, ATTN_PREFILL))
    memory = ~network & ~compute & ~expert  # decode attention, element-wise operators
    product, read, move = (float(second[mask].sum()) for mask in (compute, memory, network))
    return Demand(product + experts_s(spec, num, size, launches), read, move)


def experts_s(spec: ModelSpec, num: int, size: int, launches: int) -> float:
    """Seconds of all experts, sharded over `num` devices, on `size` tokens: their rows in so many equal products."""
    rows = Rows(parse("fp16"), Placement(), 1, 0)
    for block, count in spec.num_block().items():
        ffn = block.ffn
        if ffn.num_expert:
            m, part = size * ffn.topk // launches, ffn.expert_inter // num
            for n, k in ((2 * part, spec.hidden), (spec.hidden, part)) * (count * launches):
                rows.add("expert", GEMM, m=m, n=n, k=k)
    return float(cost(rows.table(), empty(0, 0)[1], arrays("dgx_a100", num))["time_ps"].sum()) * 1e-12


def rates(
    model: str, num: int, prompt: int, output: int, parts: tuple[int, ...], launches: int = 1
) -> tuple[float, float]:
    """Tokens a second and GPU: nano-batches side by side, and the whole batch in turn."""
    nano, whole = (demand(model, num, prompt, output, sizes, launches) for sizes in (parts, (sum(parts),)))
    token = sum(parts) / num
    return token / nano.beside, token / whole.in_turn


def engine_rate(engine: str, policy: str, trace: str, num: int) -> float:
    """Tokens a second and GPU of an engine that gets `num` requests of a trace's moments at once."""
    into, into_std, out, out_std = TRACES[trace]
    load = (
        f"batch:n={num},prompt=lognormal:mean={into}:std={into_std}:max=4000,output=lognormal:mean={out}:std={out_std}"
    )
    scenario = Scenario(
        model="llama-2-70b", system="dgx_a100", tp=8, weight_format="fp16", engine=engine, policy=policy,
        requests=f"{load}:max=2000", max_model_len=8192, prefix_cache=False,
    )  # fmt: skip
    return simulate(scenario).metrics["total_token_throughput"] / 8


def ratio_rows(num: int) -> list[dict[str, Any]]:
    """NanoFlow's rate over an engine's, mean of the traces, over what is not said of each."""
    nano = {}
    for trace, (into, _, out, _) in TRACES.items():
        nano[trace] = rates("llama-2-70b", 8, into, out, NANO["llama-2-70b"])[0]
    table = []
    for name, (paper, engines) in ENGINES.items():
        each = []
        for engine, policy in engines:
            over = [nano[trace] / engine_rate(engine, policy, trace, num) for trace in TRACES]
            each.append(sum(over) / len(over))
        note = f"{ENGINE[name]}; {LOAD}; {OPEN}"
        table.append(row("NanoFlow", RATIO, name, paper, each[0], note, null=1.0, spread=each))
        table.append(order("NanoFlow", f"order: faster than {name}", "every trace and host", min(each) > 1, OPEN))
    return table


def run(
    loads: tuple[str, ...] = tuple(LOADS), others: tuple[str, ...] = tuple(OTHERS), num: int = 15000
) -> pd.DataFrame:
    """Rows of both tables, the parts of the gain, and the ratios over engines that run one kind after another."""
    table: list[dict[str, Any]] = []
    parts = NANO["llama-2-70b"]
    for name in loads:
        prompt, output, paper = LOADS[name]
        nano, turn = rates("llama-2-70b", 8, prompt, output, parts)
        table.append(row("NanoFlow", TOTAL, name, paper, nano, f"{OPEN}; {MISS}"))
        table.append(point("in turn", TOTAL, name, turn, OPEN))
        table.append(order("NanoFlow", "order: side by side is faster than in turn", name, nano > turn, OPEN))
    for model in others:
        gpus, paper = OTHERS[model]
        num_expert = models.load(model).block[0].ffn.num_expert
        each = [rates(model, gpus, 1024, 512, NANO[model], n) for n in ((1, num_expert) if num_expert else (1,))]
        spread = [nano for nano, _ in each] if num_expert else ()
        note = f"{KERNELS}; {OPEN}" if num_expert else OPEN
        table.append(row("NanoFlow", MODEL, model, paper, each[0][0], note, spread=spread))
        table.append(point("in turn", MODEL, model, each[0][1], OPEN))
    one, two = (demand("llama-2-70b", 8, 512, 512, sizes) for sizes in ((sum(parts),), parts))
    table.append(row("NanoFlow", LOST, "512 in, 512 out", 0.132, 1 - one.in_turn / two.in_turn, f"{OPEN}; {MISS}"))
    for setup, prompt, output, paper in (("512 in, none out", 512, 0, 1.07), ("512 in, 1024 out", 512, 1024, 1.17)):
        nano, turn = rates("llama-2-70b", 8, prompt, output, parts)
        table.append(row("NanoFlow", GAIN, setup, paper, nano / turn, f"{DRAWN}; {OPEN}", null=1.0))
    return frame(table + ratio_rows(num))


def plot(table: pd.DataFrame) -> "Figure":
    """Tokens a second by load and by model, the gain of overlap, and the ratios."""
    shown = [
        Panel(TOTAL, "Llama-2-70B, 8 A100", "tokens/s a GPU"), Panel(MODEL, "1024 in, 512 out", "tokens/s a GPU"),
        Panel(GAIN, "nano-batches side by side over whole in turn", "speedup"),
        Panel(RATIO, "on traces, mean of three", "speedup over"),
    ]  # fmt: skip
    return panels(table, shown, "NanoFlow: engines of a device side by side")
