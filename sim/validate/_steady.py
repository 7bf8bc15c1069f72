"""A serving engine under a steady load: a full batch whose requests end and begin in turn.

Measured tables of energy keep the number of requests at a maximum and publish neither prompts nor their spread. So a
step is a decode of `batch` sequences in the middle of their answers, and beside it the share of a prompt's step that
comes to it (`batch / output` requests begin in a step).

Fitted on throughput alone, never on power (217 rows on H100, median error of 9 %): prompt lengths of the five tasks,
and how far into its answer the mean token is (`REACH`: 0.5 where all answers are equally long, more where few are very
long), with what the engine spends a sequence (`vllm_0.11`).
"""

from sim.serving.engine_profile import EngineProfile
from sim.serving.step_price import Lowered
from sim.serving.step_time import Batch, Deployment, lowered_for, step_of

PROMPT = {"lm-arena-chat": 300, "gpqa": 55, "sourcegraph-fim": 1720, "image-chat": 1130, "video-chat": 2730}
OTHER = 500  # tokens of a prompt where the task is none of these
REACH = 0.62


def steady(
    where: Deployment, profile: EngineProfile, batch: float, output: float, task: str = ""
) -> tuple[float, float]:
    """Seconds and joules of a mean device in a step of `batch` sequences whose answers are `output` tokens long.

    Raises `InputError` for what is unknown or has no price.
    """
    return steady_of(lowered_for(where, profile)[0], batch, output, task)


def steady_of(lowered: Lowered, batch: float, output: float, task: str = "") -> tuple[float, float]:
    """`steady` of a model that is placed and lowered already."""
    prompt = PROMPT.get(task, OTHER)
    count = max(1, round(batch))
    kv_len = prompt + max(1, round(REACH * output))
    alone_s, alone_j = step_of(lowered, Batch(num_decode=count, kv_len=kv_len))
    both_s, both_j = step_of(lowered, Batch(1, prompt, count, kv_len))
    begin = count / max(output, 1.0)
    return alone_s + begin * (both_s - alone_s), alone_j + begin * (both_j - alone_j)
