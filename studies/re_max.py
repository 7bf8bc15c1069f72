"""What does RLHF save without a critic, where states live on the host? (ReMax, ICML 2024, Llama-2-7B on A100)"""

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from hw_models import catalog
from sim.serving import engine_profile
from sim.training.estimate import Estimate, estimate, known_site
from studies._panels import Panel, panels
from studies._steps import arrays, decode_s, step_s
from studies._verdict import frame, order, point, row
from workloads import models
from workloads.models.tensors import num_param
from workloads.training import TrainPlan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "ReMax (Li et al. 2024): Llama-2-7B in 2.8 hours on four A100 where PPO takes 6.0, and without offload at all"
SMALL: dict[str, Any] = {"counts": (4,)}
MODEL, SYSTEM, DEVICE, STACK = "llama-2-7b", "dgx_a100", "a100_sxm_80gb", "llm-foundry"
PROMPT = ANSWER = 256  # the authors' scripts; half of the work of an answer is padding, as they decode to the end
NUM_PROMPT = 30_500  # two fifths of the 76K of rm-static, one epoch
PPO, REMAX = "PPO", "ReMax"
EAGER = "vllm_0.2_a100"  # whose eager layers take its host 0.55 ms (fitted, see its profile)
FIT_AT = (4, REMAX)  # the run on which the rate of the host's updates is fitted
BUCKET_BYTE = 2.0 * 5e8  # gradients under way of each trained model (DeepSpeed's default bucket, 16 bits)
COPIES = {PPO: 3, REMAX: 7}
"""Values of 4 bytes for each position and entry of the vocabulary that are alive at once where logits become
probabilities in the authors' code: PPO's scores without gradients, ReMax's with entropy and divergence in full."""


class Run(NamedTuple):
    """A published run with the optimizer on the host: sequences a GPU, hours."""

    batch: int
    hour: float


RUNS = {4: {PPO: Run(30, 6.0), REMAX: Run(40, 2.8)}, 1: {PPO: Run(32, 22.0), REMAX: Run(42, 10.2)}}
ALONE = {PPO: 0, REMAX: 26}  # the largest batch a GPU of four, with all states on the GPUs
ALONE_HOUR = 2.4  # of ReMax's
HOURS, PART, RATIO = "hours", "seconds a prompt and GPU", "time of PPO over it"
NOTE = (
    "prompts and answers of 256 tokens, all decoded to the end; policy (and critic, as large) under ZeRO-2 with "
    "recomputation, states updated on the host; reward and reference models brought from the host for every pass; "
    "generation as eager layers of vLLM 0.2's or the device, whichever is longer"
)
OPEN_HOST = (
    "the hosts are not published: the rate at which one reads and writes states as it updates them, the same for one "
    "GPU and for four, which share it, is fitted on ReMax on four ({:.1f} GB/s, few threads of one); it takes in the "
    "13 s of a step that are missing with the states on the GPUs too"
)


@functools.cache
def training(num_gpu: int, batch: int, offload: bool = True, host_byte_per_s: float = 0.0) -> Estimate:
    """One step of one trained model on `batch` sequences a GPU; the host that its GPUs share updates at this rate."""
    site = known_site(SYSTEM, num_gpu, STACK, "unfused")
    stack = site.stack.copy()
    if host_byte_per_s:
        stack["host_mem_byte_per_s"] = host_byte_per_s / num_gpu
    plan = TrainPlan(
        dp=num_gpu, micro_batch=batch, batch=batch * num_gpu, seq=PROMPT + ANSWER, zero=2 if num_gpu > 1 else 0,
        grad_byte=2.0, recompute="full", attention="unfused", optimizer_offload=float(offload), host_update=offload,
        fused_loss=False,
    )  # fmt: skip
    return estimate(models.load(MODEL), plan, site._replace(stack=stack))


@functools.cache
def generation_s(batch: int) -> float:
    """Prefill and decode of one answer to each of `batch` prompts: a token takes the device or the host's launches."""
    where = arrays(DEVICE)
    layer_s = engine_profile.load(EAGER).dispatch_layer_s
    token_s = max(decode_s(MODEL, where, batch, PROMPT + ANSWER // 2), models.load(MODEL).num_layer * layer_s)
    return step_s(MODEL, where, [PROMPT] * batch, [PROMPT] * batch, decode=False) + ANSWER * token_s


@functools.cache
def scoring_s(num_gpu: int, batch: int) -> float:
    """One forward pass of a model whose weights come from the host, a share over each GPU's link, and are gathered."""
    count = batch
    own = step_s(MODEL, arrays(DEVICE), [PROMPT + ANSWER] * count, [PROMPT + ANSWER] * count, decode=False)
    byte = 2.0 * num_param(models.load(MODEL))
    host = float(known_site(SYSTEM, num_gpu, STACK, "unfused").stack["host_byte_per_s"])
    return max(own, byte / num_gpu / host)


def parts(
    way: str, num_gpu: int, batch: int, host_byte_per_s: float = 0.0, *, offload: bool = True
) -> dict[str, float]:  # fmt: skip
    """Seconds a prompt and GPU of one iteration: PPO answers once, scores with reward, reference, critic and policy,
    and trains two models; ReMax answers twice (drawn, and greedily), scores twice with the reward and once with the
    reference model, and trains one."""
    own = step_s(MODEL, arrays(DEVICE), [PROMPT + ANSWER] * batch, [PROMPT + ANSWER] * batch, decode=False)
    answer, score, train = (1, 2, 2) if way == PPO else (2, 3, 1)
    forward = 2 * own if way == PPO else 0.0  # of critic and policy, whose weights are there
    found = {"generation": answer * generation_s(batch), "scoring": score * scoring_s(num_gpu, batch) + forward,
             "training": train * training(num_gpu, batch, offload, host_byte_per_s).step_s}  # fmt: skip
    return {name: one / batch for name, one in found.items()}


def need_byte(way: str, num_gpu: int, batch: int, offload: bool) -> float:
    """Bytes of a GPU: the most of training, of its update (a rank's gradients in 32 bits beside the states, not
    offloaded) and of logits that become probabilities. PPO holds the weights of the other model and, not offloaded, its
    states. The cache of the generation stays (the authors' script does not ask for its release)."""
    one, least, spec = training(num_gpu, batch, offload), training(num_gpu, 1, offload), models.load(MODEL)
    token = batch * (PROMPT + ANSWER)
    cache = token * spec.num_layer * 2 * 2.0 * spec.hidden
    states = float(one.memory[0] + one.memory[1] + one.memory[2])
    update = 0.0 if offload else 4.0 * num_param(spec) / num_gpu
    logits = 4.0 * COPIES[way] * spec.vocab * token
    kept = float(one.memory[3] - least.memory[3]) if way == REMAX else 0.0  # its first pass keeps what it would learn
    peak = max(one.peak_byte, least.peak_byte + update, least.peak_byte + kept + logits)
    trained = 2 if way == PPO else 1
    return peak + cache + (states if way == PPO else 0.0) + trained * BUCKET_BYTE


def largest(way: str, num_gpu: int, offload: bool) -> float:
    """Sequences a GPU that fit."""
    device = catalog.device(DEVICE)
    room = device.mem_byte - device.mem_reserved_byte
    fits = [batch for batch in range(1, 129) if need_byte(way, num_gpu, batch, offload) <= room]
    return float(max(fits, default=0))


def hours(way: str, num_gpu: int, host_byte_per_s: float) -> float:
    """Of one epoch with the states on the host."""
    second = sum(parts(way, num_gpu, RUNS[num_gpu][way].batch, host_byte_per_s).values())
    return second * NUM_PROMPT / num_gpu / 3600


@functools.cache
def fitted() -> float:
    """Bytes a second of the host's updates by which `FIT_AT` takes as long as published."""
    num_gpu, way = FIT_AT
    low, high = 1e9, 1e12
    for _ in range(40):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if hours(way, num_gpu, middle) < RUNS[num_gpu][way].hour else (middle, high)
    return high


def run(counts: tuple[int, ...] = tuple(RUNS)) -> pd.DataFrame:
    """Hours of either way, their ratio, where they go, and what fits."""
    rows: list[dict[str, Any]] = []
    rate = fitted()
    host = OPEN_HOST.format(rate / 1e9)
    for count in counts:
        setup = f"{count} A100, states on the host"
        found = {way: hours(way, count, rate) for way in RUNS[count]}
        for way, one in RUNS[count].items():
            rows.append(row(way, HOURS, setup, one.hour, found[way], f"batch {one.batch} a GPU; {host}; {NOTE}",
                            tag="approx", kind="fitted" if (count, way) == FIT_AT else "number"))  # fmt: skip
            rows += [point(way, f"{PART}: {name}", setup, value)
                     for name, value in parts(way, count, one.batch, rate).items()]  # fmt: skip
        published = round(RUNS[count][PPO].hour / RUNS[count][REMAX].hour, 2)
        ratio = found[PPO] / found[REMAX]
        rows.append(row(REMAX, RATIO, setup, published, ratio, f"{host}; {NOTE}", null=1.0))
        quick = sum(parts(PPO, count, RUNS[count][PPO].batch).values()) / sum(
            parts(REMAX, count, RUNS[count][REMAX].batch).values()
        )
        rows.append(order(REMAX, "order: an iteration takes less than PPO's, whatever the host", setup,
                          min(ratio, quick) > 1, NOTE))  # fmt: skip
    second = sum(parts(REMAX, 4, ALONE[REMAX], offload=False).values())
    rows.append(row(REMAX, HOURS, "4 A100, states on the GPUs", ALONE_HOUR, second * NUM_PROMPT / 4 / 3600,
                    f"batch {ALONE[REMAX]} a GPU; no host updates anything: what is missing is not known; {NOTE}",
                    tag="approx"))  # fmt: skip
    alone = {way: largest(way, 4, False) for way in ALONE}
    rows.append(
        order(
            PPO,
            "memory: no batch fits",
            "4 A100, states on the GPUs",
            alone[PPO] < 1,
            f"{need_byte(PPO, 4, 1, False) / 2**30:.0f} GiB for one sequence; {NOTE}",
        )
    )
    rows.append(
        row(
            REMAX,
            "largest batch a GPU",
            "4 A100, states on the GPUs",
            ALONE[REMAX],
            alone[REMAX],
            f"scores of eager attention and the workspace of the inference kernels are not counted; {NOTE}",
            tag="approx",
        )
    )
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Hours, the ratio, and where the time of a prompt goes."""
    shown = [Panel(HOURS, "one epoch", HOURS), Panel(RATIO, "without a critic", RATIO)]
    shown += [Panel(f"{PART}: {name}", name, PART) for name in ("generation", "scoring", "training")]
    return panels(table, shown, "ReMax and PPO: Llama-2-7B", columns=3)
