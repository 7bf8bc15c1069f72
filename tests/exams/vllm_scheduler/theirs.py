"""vLLM's own scheduler and KV-cache manager on cases, without a model: `python -m tests.exams.vllm_scheduler.theirs
FOLDER... < cases.json > plans.json` with the folders of the unpacked wheels.

A process of its own, as what serves with the scheduler is blank there (`tests.exams.blanks`). The engine's loop is that
of `vllm/v1/engine/core.py`: a step at a time, or with a queue of batches (asynchronous scheduling, pipelines).
"""

import dataclasses
import inspect
import json
import os
import sys
from typing import Any

from tests.exams.blanks import install
from tests.exams.vllm_scheduler.cases import BLOCK_TOKEN, Ask, Case

BLANK = (
    "torch", "transformers", "tokenizers", "huggingface_hub", "safetensors", "gguf", "openai", "aiohttp", "requests",
    "regex", "psutil", "zmq", "cloudpickle", "pybase64", "cbor2", "blake3", "cpuinfo", "einops", "cachetools",
    "urllib3", "uvloop", "prometheus_client", "vllm.distributed", "vllm.multimodal", "vllm.compilation",
    "vllm.model_executor",
    "vllm.lora", "vllm.inputs", "vllm.connections", "vllm.usage", "vllm.entrypoints", "vllm.reasoning",
    "vllm.renderers", "vllm.tool_parsers", "vllm.transformers_utils", "vllm.config.quantization",
    "vllm.v1.structured_output",
)  # fmt: skip
STOP = 7
MANY_TOKENS = 100_000
Plan = tuple[int, dict[int, int]]  # when the first stage begins it; tokens of each request


class Given:
    """A configuration of what is said, and false in all else."""

    def __init__(self, **given: Any) -> None:
        vars(self).update(given)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return None


class Engine:
    """A scheduler of vLLM with the loop around it."""

    def __init__(self, case: Case) -> None:
        import vllm.v1.request
        from vllm.config.scheduler import SchedulerConfig
        from vllm.v1.core.sched import scheduler
        from vllm.v1.core.sched.async_scheduler import AsyncScheduler
        from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec

        silent = Given(create=lambda *_, **__: Given(publish=lambda *_: None))
        scheduler.EventPublisherFactory = silent
        scheduler.compute_encoder_budget = lambda **_: (0, 0)
        scheduler.MULTIMODAL_REGISTRY = Given(get_encdec_max_encoder_len=lambda _: 0)
        vllm.v1.request.StructuredOutputRequest = Given(from_sampling_params=lambda *_: None)
        self.case = case
        self.newer = "scheduler_reserve_full_isl" in SchedulerConfig.__dataclass_fields__
        chosen = {"scheduler_reserve_full_isl": case.whole} if self.newer else {}
        if "prefill_schedule_interval" in SchedulerConfig.__dataclass_fields__:
            chosen["prefill_schedule_interval"] = case.interval
        limits = SchedulerConfig(
            max_model_len=case.max_context, is_encoder_decoder=False, max_num_batched_tokens=case.budget,
            max_num_seqs=case.seats, long_prefill_token_threshold=case.longest_chunk, enable_chunked_prefill=True,
            policy="priority" if case.by_priority else "fcfs", async_scheduling=case.ahead, **chosen,
        )  # fmt: skip
        self.depth = 2 if case.ahead else case.stages
        config = Given(
            scheduler_config=limits,
            parallel_config=Given(
                data_parallel_index=0, data_parallel_rank=0, data_parallel_size=1, decode_context_parallel_size=1,
                prefill_context_parallel_size=1, pipeline_parallel_size=case.stages,
            ),
            observability_config=Given(), model_config=Given(max_model_len=case.max_context, runner_type="generate"),
            cache_config=Given(
                num_gpu_blocks=case.num_block + 1, enable_prefix_caching=case.cache, block_size=BLOCK_TOKEN,
                mamba_cache_mode="align" if case.states and case.cache else "none",
            ),
            num_speculative_tokens=0, num_lookahead_tokens=0, num_prefill_lookahead_tokens=0,
            num_hash_lookahead_tokens=0, max_concurrent_batches=self.depth,
            max_in_flight_tokens=self.depth * case.budget,
            ec_manager_config=Given(get_encoder_cache_manager_obj=lambda: None), aux_output_config=Given(enabled=False),
        )  # fmt: skip
        layout = FullAttentionSpec(block_size=BLOCK_TOKEN, num_kv_heads=1, head_size=1, dtype="float32")
        groups = [KVCacheGroupSpec(["layer"], layout)]
        groups += [KVCacheGroupSpec([f"state {k}"], self.state(k)) for k in range(case.states)]
        kept = {"prefix_cache_retention_interval": 0} if self.newer and case.states else {}  # its default
        store = KVCacheConfig(  # one block of theirs is the null block
            num_blocks=case.num_block + 1, kv_cache_tensors=[], kv_cache_groups=groups, **kept
        )
        made = AsyncScheduler if case.ahead else scheduler.Scheduler
        grammar = Given(should_advance=lambda _: False, accept_tokens=lambda *_: True)
        common = case.max_context if case.states and not case.cache else BLOCK_TOKEN  # of all groups' blocks
        self.scheduler = made(config, store, grammar, common)
        self.order = sorted(range(len(case.asks)), key=lambda i: (case.asks[i].arrival, i))
        self.delivered = 0
        self.num_output: dict[str, int] = {}
        self.now = 0
        self.free = [0] * case.stages
        self.queue: list[tuple[int, Any, dict[str, bool]]] = []  # in flight: end, batch, which rows sample
        self.plans: list[Plan] = []

    def state(self, _: int) -> Any:
        """A group of recurrent layers, whose state fills a page."""
        from vllm.v1.kv_cache_interface import MambaSpec

        if not self.case.cache:
            return MambaSpec(block_size=self.case.max_context, shapes=((1,),), dtypes=("float32",))
        exported = {"num_prefill_checkpoint_blocks": 1, "prefill_checkpoint_alignment": 1} if self.case.exports else {}
        return MambaSpec(
            block_size=BLOCK_TOKEN, shapes=((1,),), dtypes=("float32",), mamba_cache_mode="align", **exported
        )

    def deliver(self) -> None:
        """Requests whose time has come."""
        from vllm.sampling_params import SamplingParams
        from vllm.utils.hashing import sha256
        from vllm.v1.core.kv_cache_utils import get_request_block_hasher
        from vllm.v1.request import Request

        asks, case = self.case.asks, self.case
        while self.delivered < len(asks) and asks[self.order[self.delivered]].arrival <= self.now:
            i = self.order[self.delivered]
            ask = asks[i]
            self.delivered += 1
            if ask.prompt + ask.output > case.max_context:
                continue  # its front end refuses it
            shared = [10_000 + BLOCK_TOKEN * unit + k for unit in ask.prefix for k in range(BLOCK_TOKEN)]
            token = shared + [(i + 1) * 1_000_000 + k for k in range(ask.tail)]
            sampling = SamplingParams(
                max_tokens=5000 if case.by_token else ask.output, ignore_eos=not case.by_token,
                stop_token_ids=[STOP] if case.by_token else None,
            )  # fmt: skip
            given: dict[str, Any] = {
                "request_id": str(i), "prompt_token_ids": token, "sampling_params": sampling, "pooling_params": None,
                "arrival_time": float(self.delivered), "priority": ask.priority,
                "block_hasher": get_request_block_hasher(BLOCK_TOKEN, sha256),
            }  # fmt: skip
            if "eos_token_id" in inspect.signature(Request).parameters:
                given["eos_token_id"] = None
            self.scheduler.add_request(Request(**given))

    def run(self) -> list[Plan]:
        """All plans, first to last; `RuntimeError` where nothing moves any more."""
        idle = 0
        while idle < 10:
            self.deliver()
            if not self.scheduler.has_requests() and not self.queue:
                if self.delivered == len(self.order):
                    return self.plans
                self.now = self.case.asks[self.order[self.delivered]].arrival
                continue
            if self.scheduler.has_requests() and self.launch():
                continue
            end, batch, samples = self.queue.pop(0)
            idle = 0 if samples else idle + 1
            self.now = max(self.now, end)
            if not self.queue and idle > 1 and self.delivered < len(self.order):  # one may have preempted
                self.now = max(self.now, self.case.asks[self.order[self.delivered]].arrival)
            self.finish(batch, samples)
        raise RuntimeError(f"{self.case.name}: nothing moves")

    def launch(self) -> bool:
        """Plans a batch; whether another is to be planned before any ends."""
        batch = self.scheduler.schedule()
        rows = batch.num_scheduled_tokens
        ahead = [samples for _, _, samples in self.queue]
        samples = {}
        for name in rows:
            request = self.scheduler.requests[name]
            known = request.num_prompt_tokens + self.num_output.get(name, 0) + sum(s.get(name, False) for s in ahead)
            samples[name] = request.num_computed_tokens >= known
        end = max(self.now, self.queue[-1][0] if self.queue else 0)
        if rows:
            start = end = max(self.now, self.free[0])
            for stage, free in enumerate(self.free):
                end = self.free[stage] = max(end, free) + 1
            self.plans.append((start, {int(name): count for name, count in rows.items()}))
        self.queue.append((end, batch, samples))
        if len(self.queue) >= self.depth:
            return False
        if self.newer:
            return bool(rows) or self.scheduler.has_requests()
        return bool(rows) and self.queue[0][0] > self.now

    def finish(self, batch: Any, samples: dict[str, bool]) -> None:
        """A batch ends: what it sampled goes back to the scheduler."""
        from vllm.v1.outputs import ModelRunnerOutput

        token = []
        for name, sampled in samples.items():
            made = self.num_output.get(name, 0)
            last = self.case.by_token and self.case.asks[int(name)].output == made + 1
            token.append([STOP if last else (int(name) + 1) * 1_000_000 + MANY_TOKENS + made] if sampled else [])
            self.num_output[name] = made + sampled
        index = {name: k for k, name in enumerate(samples)}
        given = {"logprobs": None, "prompt_logprobs_dict": {}, "pooler_output": [], "sampled_token_ids": token}
        fields = inspect.signature(ModelRunnerOutput).parameters
        given = {name: value for name, value in given.items() if name in fields}
        self.scheduler.update_from_output(batch, ModelRunnerOutput(list(samples), index, **given))


def main(folders: list[str]) -> None:
    """Reads cases, writes their plans (or what went wrong) in the same order."""
    sys.path[:0] = folders
    os.environ |= {"VLLM_LOGGING_LEVEL": "ERROR", "CUDA_VISIBLE_DEVICES": ""}
    install(*BLANK)
    from vllm.utils.hashing import sha256
    from vllm.v1.core.kv_cache_utils import init_none_hash

    init_none_hash(sha256)
    found: list[Any] = []
    for raw in json.load(sys.stdin):
        given = Case(**(raw | {"asks": [Ask(**ask) for ask in raw["asks"]]}))
        assert dataclasses.asdict(given) == raw
        found.append(Engine(given).run())
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
