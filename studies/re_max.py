"""What does RLHF save without a critic, where states live on the host? (ReMax, ICML 2024, Llama-2-7B on A100)"""

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from hw_models import catalog
from kernels.train_closed import RESULT
from sim.serving import engine_profile
from sim.training.estimate import Estimate, estimate, known_site
from sim.training.offload import cpu_update_s, flush_s
from sim.training.offload_measured import HOSTS as HOST
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
NUM_PROMPT = 45_000  # of full-hh-rlhf, one epoch (below the authors' table)
EVALUATIONS, EVALUATION_BATCH, TEXT = 22, 20, 100
"""The authors' loop measures its policy before, after and twenty times in an epoch: on so many batches of prompts, each
answered once and scored by policy, reward and reference model, and on so many texts for the perplexity."""
PPO, REMAX = "PPO", "ReMax"
EAGER = "vllm_0.2_a100"  # whose eager layers take its host 0.55 ms (fitted, see its profile)
HOSTS = ("a100", "")  # two machines of four A100 on which DeepSpeed's flush and update were measured
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
    "45,000 prompts, one epoch (the authors' README); prompts and answers of 256 tokens, all decoded to the end; "
    "policy (and critic, as large) under ZeRO-2 with recomputation; reward and reference models brought from the host "
    "for every pass; generation as eager layers of vLLM 0.2's or the device, whichever is longer; with the 22 "
    "evaluations that their loop has, or without them, as what the published time counts is not said"
)
OPEN_HOST = (
    "; the hosts are not published: range over the two machines of four A100 whose flush and update under DeepSpeed "
    "were measured (zero3_offload_iterations)"
)
CAUSE = (
    "; the authors' PPO is not in their repository (its algorithms are ReMax alone): what it has beyond ours, some 20 "
    "to 25 s of a step on one GPU and on four, is not known; tried: updates at a tenth of the host's memory rate, "
    "which gives 4.9 h on four and 38 h on one"
)


@functools.cache
def training(num_gpu: int, batch: int, offload: bool = True) -> Estimate:
    """One step of one trained model on `batch` sequences a GPU, but for what a host does in it."""
    plan = TrainPlan(
        dp=num_gpu, micro_batch=batch, batch=batch * num_gpu, seq=PROMPT + ANSWER, zero=2 if num_gpu > 1 else 0,
        grad_byte=2.0, recompute="full", attention="unfused", optimizer_offload=float(offload), host_update=offload,
        fused_loss=False,
    )  # fmt: skip
    return estimate(models.load(MODEL), plan, known_site(SYSTEM, num_gpu, STACK, "unfused"))


def training_s(num_gpu: int, batch: int, host: str | None) -> float:
    """Seconds of it, with its states on the GPUs or on a host that was measured: the gradients' blocking flush, and the
    update on the CPU."""
    if host is None:
        return training(num_gpu, batch, False).step_s
    one, value = training(num_gpu, batch), np.array(num_param(models.load(MODEL)))
    shard = value / num_gpu
    on_host = flush_s(HOST[host], shard, value) + cpu_update_s(HOST[host], shard, value)
    return one.step_s - float(one.part[RESULT.index("optimizer_s")]) + float(on_host)


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


def parts(way: str, num_gpu: int, batch: int, host: str | None = HOSTS[0]) -> dict[str, float]:
    """Seconds a prompt and GPU of one iteration: PPO answers once, scores with reward, reference, critic and policy,
    and trains two models; ReMax answers twice (drawn, and greedily), scores twice with the reward and once with the
    reference model, and trains one. `host`: which has the states; none, they are on the GPUs."""
    own = step_s(MODEL, arrays(DEVICE), [PROMPT + ANSWER] * batch, [PROMPT + ANSWER] * batch, decode=False)
    answer, score, train = (1, 2, 2) if way == PPO else (2, 3, 1)
    forward = 2 * own if way == PPO else 0.0  # of critic and policy, whose weights are there
    found = {"generation": answer * generation_s(batch), "scoring": score * scoring_s(num_gpu, batch) + forward,
             "training": train * training_s(num_gpu, batch, host)}  # fmt: skip
    return {name: one / batch for name, one in found.items()}


def evaluations_s(num_gpu: int, batch: int) -> float:
    """Seconds of a run's evaluations, of either way: the trained models' weights are there, a text is bound by the
    host's launches."""
    own = step_s(MODEL, arrays(DEVICE), [PROMPT + ANSWER] * batch, [PROMPT + ANSWER] * batch, decode=False)
    each = generation_s(batch) + own + 2 * scoring_s(num_gpu, batch)
    text_s = models.load(MODEL).num_layer * engine_profile.load(EAGER).dispatch_layer_s
    return EVALUATIONS * (EVALUATION_BATCH * each + TEXT * text_s)


def hours(way: str, num_gpu: int, batch: int, host: str | None = HOSTS[0]) -> tuple[float, float]:
    """Of one epoch, with its evaluations and without."""
    epoch_s = sum(parts(way, num_gpu, batch, host).values()) * NUM_PROMPT / num_gpu
    return (epoch_s + evaluations_s(num_gpu, batch)) / 3600, epoch_s / 3600


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


def run(counts: tuple[int, ...] = tuple(RUNS)) -> pd.DataFrame:
    """Hours of either way, their ratio, where they go, and what fits."""
    rows: list[dict[str, Any]] = []
    for count in counts:
        setup, each = f"{count} A100, states on the host", {}
        for way, one in RUNS[count].items():
            each[way] = [hour for host in HOSTS for hour in hours(way, count, one.batch, host)]
            note = f"batch {one.batch} a GPU; {NOTE}{OPEN_HOST}{CAUSE if way == PPO else ''}"
            rows.append(row(way, HOURS, setup, one.hour, each[way][0], note, tag="approx", spread=each[way]))
            rows += [point(way, f"{PART}: {name}", setup, value)
                     for name, value in parts(way, count, one.batch).items()]  # fmt: skip
        published = round(RUNS[count][PPO].hour / RUNS[count][REMAX].hour, 2)
        ratio = [a / b for a, b in zip(each[PPO], each[REMAX], strict=True)]
        rows.append(row(REMAX, RATIO, setup, published, ratio[0], (OPEN_HOST + CAUSE)[2:], null=1.0, spread=ratio))
        rows.append(order(REMAX, "order: an epoch takes less than PPO's, whatever the host", setup, min(ratio) > 1))
    both = hours(REMAX, 4, ALONE[REMAX], None)
    rows.append(row(REMAX, HOURS, "4 A100, states on the GPUs", ALONE_HOUR, both[0],
                    f"batch {ALONE[REMAX]} a GPU; {NOTE}", tag="approx", spread=both))  # fmt: skip
    alone = {way: largest(way, 4, False) for way in ALONE}
    rows.append(
        order(
            PPO,
            "memory: no batch fits",
            "4 A100, states on the GPUs",
            alone[PPO] < 1,
            f"{need_byte(PPO, 4, 1, False) / 2**30:.0f} GiB for one sequence",
        )
    )
    rows.append(
        row(
            REMAX,
            "largest batch a GPU",
            "4 A100, states on the GPUs",
            ALONE[REMAX],
            alone[REMAX],
            "scores of eager attention and the workspace of the inference kernels are not counted; tried: that "
            "workspace (59 MB a sequence, as DeepSpeed allocates it) and joined copies of the weights of 8.5 GiB, "
            "which leave 36",
            tag="approx",
        )
    )
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Hours, the ratio, and where the time of a prompt goes."""
    shown = [Panel(HOURS, "one epoch", HOURS), Panel(RATIO, "without a critic", RATIO)]
    shown += [Panel(f"{PART}: {name}", name, PART) for name in ("generation", "scoring", "training")]
    return panels(table, shown, "ReMax and PPO: Llama-2-7B", columns=3)
