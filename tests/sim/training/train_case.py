"""Models, a plan and their prices, which tests of a training step share."""

from typing import Any

from hw_models import catalog
from sim.training.price import piece, site
from sim.training.stack import load_stack
from workloads import models
from workloads.training import TrainPlan

LLAMA, GPT = models.load("llama-3-8b"), models.load("gpt3-13b")
BIG, MIXTRAL, DEEPSEEK = (models.load(name) for name in ("llama-3.1-405b", "mixtral-8x7b", "deepseek-v3"))
BASE = TrainPlan(batch=4, seq=4096, attention="flash2", fused_norm=True)


def prices(
    model: Any, plan: TrainPlan, system: str = "dgx_h100", stack: str = "megatron-core", precision: str = "bf16"
) -> Any:
    return piece(
        model, plan, site(catalog.system(system, plan.num_device), load_stack(stack), plan.attention, precision)
    )
