"""SGLang's own admission (`PrefillAdder`) and radix tree on cases, without a model: `python -m
tests.exams.sglang_scheduler.theirs FOLDER... < cases.json > plans.json`.

Real are `managers/schedule_policy.py`, and of `mem_cache` `radix_cache.py`, `prefill_budget.py`, `allocation.py` and
`allocator/base.py` (what is evicted before a batch); around them the loop without overlap of `managers/scheduler.py`
(merge what was prefilled, try a prefill batch, else decode), with pages counted, not addressed.
"""

import json
import sys
from array import array
from functools import partial
from typing import Any

from tests.exams.blanks import install
from tests.exams.vllm_scheduler.cases import BLOCK_TOKEN, Ask, Case

BLANK = (
    "torch", "torch_npu", "transformers", "triton", "zmq", "psutil", "requests", "orjson", "uvloop", "fastapi",
    "huggingface_hub", "PIL", "pybase64", "cloudpickle", "aiohttp", "sgl_kernel", "flashinfer", "torchvision",
    "xgrammar", "outlines", "IPython", "setproctitle", "tqdm", "starlette", "safetensors", "torchao", "einops",
    "sentencepiece", "tiktoken", "prometheus_client", "sglang.utils", "sglang.kernels", "sglang.srt.utils",
    "sglang.srt.layers",
    "sglang.srt.distributed", "sglang.srt.model_executor", "sglang.srt.configs", "sglang.srt.managers.schedule_batch",
    "sglang.srt.server_args", "sglang.srt.lora", "sglang.srt.speculative", "sglang.srt.disaggregation",
    "sglang.srt.hardware_backend", "sglang.srt.observability", "sglang.srt.multimodal", "sglang.srt.dllm",
    "sglang.srt.runtime_context", "sglang.srt.platforms", "sglang.srt.mem_cache.unified_radix_cache",
    "sglang.srt.managers.prefill_delayer",
)  # fmt: skip


class Given:
    """A configuration of what is said, and false in all else."""

    def __init__(self, **given: Any) -> None:
        vars(self).update(given)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return None


class Slots(list[int]):
    """Places of tokens, of which only the number matters."""

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        return Slots(found) if isinstance(key, slice) else found

    def clone(self) -> "Slots":
        """The same."""
        return Slots(self)


class Request(Given):
    """What the adder reads of a request."""

    @property
    def extend_len(self) -> int:
        """Tokens that its batch computes."""
        return int(self.extend_end - self.prefix_len)

    def needs_host_load_back(self) -> bool:
        """No."""
        return False

    def materialized_host_hit_len(self) -> int:
        """None."""
        return 0

    def fulfilled_storage_hit_len(self, _: int) -> int:
        """None."""
        return 0


class Engine:
    """The loop around a tree and an adder."""

    def __init__(self, case: Case) -> None:
        from sglang.srt.managers import schedule_policy
        from sglang.srt.mem_cache import allocation
        from sglang.srt.mem_cache.allocator.base import BaseTokenToKVPoolAllocator as Pool
        from sglang.srt.mem_cache.prefill_budget import PrefillBudget
        from sglang.srt.mem_cache.radix_cache import RadixCache

        schedule_policy.get_exec = lambda: Given(features=Given())
        schedule_policy.get_schedule = lambda: Given(schedule_policy="fcfs")
        schedule_policy._use_exact_chunk_fill = lambda: False
        schedule_policy.mamba_prefill_chunk_grid = lambda: 1
        schedule_policy.page_interleave_shard_size = lambda _: 1
        schedule_policy._IS_HIP = False
        schedule_policy.PrefillAdder._account_prefill_cache_admission = lambda *_: (
            None
        )  # it counts, and decides nothing
        self.policy, self.allocation = schedule_policy, allocation
        self.case = case
        self.total = case.num_block * BLOCK_TOKEN
        self.pool = Given(
            page_size=BLOCK_TOKEN, available_size=self.available, request_slot_reserve=lambda **_: 0, device=0,
            free_segment=lambda *_, **__: None,
            create_prefill_budget=lambda tree, **given: PrefillBudget(self.pool, tree, **given),
            alloc_extend=lambda *_: (), alloc_decode=lambda *_: (),  # counted by `take`
        )  # fmt: skip
        for name in ("get_extend_allocation_demand", "evict_to_free_tokens", "check_decode_capacity"):
            setattr(self.pool, name, partial(getattr(Pool, name), self.pool))
        self.private = 0  # tokens of pages that the tree does not hold
        self.tree: Any = None
        self.tree = RadixCache.create_simulated(mock_allocator=self.pool, page_size=BLOCK_TOKEN)
        self.waiting: list[Request] = []
        self.running: list[Request] = []
        self.last: list[Request] = []
        self.chunked: Request | None = None
        self.full = False

    def available(self) -> int:
        """Tokens of free pages."""
        return self.total - self.private - self.tree.evictable_size() - self.tree.protected_size()

    def take(self, request: Request, length: int) -> None:
        """Free pages for the first `length` tokens of a request."""
        need = -(-length // BLOCK_TOKEN) * BLOCK_TOKEN - request.protected - request.private
        assert need <= self.available(), "no page"
        request.private += need
        self.private += need

    def keep(self, request: Request, length: int, ends: bool) -> None:
        """Gives the tree the pages of the first `length` tokens, and frees those that it had."""
        from sglang.srt.mem_cache.base_prefix_cache import InsertParams, MatchPrefixParams
        from sglang.srt.mem_cache.radix_cache import RadixKey

        whole = length // BLOCK_TOKEN * BLOCK_TOKEN
        key = RadixKey(array("q", request.token[:whole]))
        self.private -= request.private if ends else whole - request.protected
        request.private -= whole - request.protected
        if whole:
            self.tree.insert(InsertParams(key=key, value=Slots(range(whole))))
        self.tree.unlock(request.lock)
        request.lock = None
        if not ends:
            request.protected = whole
            request.last_node = self.tree.match_prefix(MatchPrefixParams(key=key)).last_device_node
            request.lock = self.tree.lock(request.last_node)

    def match(self, request: Request) -> None:
        """Looks a waiting request up, but for its last token."""
        from sglang.srt.mem_cache.base_prefix_cache import MatchPrefixParams
        from sglang.srt.mem_cache.radix_cache import RadixKey

        key = RadixKey(array("q", request.full_untruncated_fill_ids[:-1]))
        found = self.tree.match_prefix(MatchPrefixParams(key=key))
        request.prefix_len = request.protected = found.device_prefix_len
        request.last_node = request.best_match_node = found.last_device_node

    def prefill(self) -> list[Request]:
        """The next prefill batch; empty: none."""
        if not self.running:
            self.full = False
        if (self.full or not self.waiting) and self.chunked is None:
            return []
        seats = self.case.seats - len(self.running)
        if seats <= 0 and self.chunked is None:
            self.full = True
            return []
        adder = self.policy.PrefillAdder(
            BLOCK_TOKEN, self.tree, self.pool, Given(reqs=self.running), 1.0, 16384, self.case.budget,
            max_running_requests=self.case.seats, waiting_queue_len=len(self.waiting),
        )  # fmt: skip
        if self.chunked is not None:
            self.chunked = adder.add_chunked_req(self.chunked)
        for request in self.waiting:
            if adder.budget_state() == self.policy.AddReqResult.OTHER:
                break
            self.full = self.full or len(adder.can_run_list) >= seats
            if self.full:
                break
            self.match(request)
            result = adder.add_one_req(request, self.chunked is not None, None)
            if result != self.policy.AddReqResult.CONTINUE:
                if result == self.policy.AddReqResult.NO_TOKEN:
                    self.full = bool(adder.can_run_list or self.running)
                break
        self.chunked = adder.new_chunked_req or self.chunked
        batch: list[Request] = adder.can_run_list
        self.waiting = [request for request in self.waiting if not any(request is other for other in batch)]
        if batch:
            num_token = sum(request.extend_len for request in batch)
            self.allocation.alloc_paged_token_slots_extend(self.tree, None, None, None, batch, None, num_token)
        for request in batch:
            self.take(request, request.extend_end)
        return batch

    def decode(self) -> None:
        """Pages for a token of each request that runs."""
        new = sum((len(request.token) - 1) % BLOCK_TOKEN == 0 for request in self.running)
        assert self.pool.check_decode_capacity(num_tokens=new * BLOCK_TOKEN, tree_cache=self.tree), "it would retract"
        self.allocation.alloc_paged_token_slots_decode(self.tree, self.running, self.running, None)
        for request in self.running:
            self.take(request, len(request.token))

    def run(self) -> list[tuple[int, dict[int, int]]]:
        """All plans, first to last."""
        asks = self.case.asks
        order = sorted(range(len(asks)), key=lambda i: (asks[i].arrival, i))
        plans: list[tuple[int, dict[int, int]]] = []
        now = 0
        while order or self.waiting or self.running or self.last or self.chunked:
            while order and asks[order[0]].arrival <= now:
                self.waiting.append(self.request(order.pop(0)))
            before = len(self.last) + len(self.running)
            self.running += [request for request in self.last if request is not self.chunked]
            self.running = [request for request in self.running if not request.done]
            self.full = self.full and len(self.running) == before
            self.last = self.prefill()
            rows = {int(request.number): request.extend_len for request in self.last}
            if not self.last:
                self.decode()
                rows = {int(request.number): 1 for request in self.running}
            if not rows and not order:
                assert not self.waiting, "nothing moves"
                break
            if not rows:
                now = max(now, asks[order[0]].arrival)
                continue
            plans.append((now, rows))
            now += 1
            for request in self.last or self.running:
                self.commit(request)
        return plans

    def request(self, i: int) -> Request:
        """One that has come."""
        ask = self.case.asks[i]
        shared = [10_000 + BLOCK_TOKEN * unit + k for unit in ask.prefix for k in range(BLOCK_TOKEN)]
        prompt = shared + [(i + 1) * 1_000_000 + k for k in range(ask.tail)]
        return Request(
            number=i, token=prompt, origin_input_ids=prompt, full_untruncated_fill_ids=list(prompt), output_ids=[],
            sampling_params=Given(max_new_tokens=ask.output, ignore_eos=True), kv=Given(), private=0, protected=0,
            host_hit_length=0, swa_host_hit_length=0, auxiliary_swa_host_hit_length=0, storage_hit_length=0,
            mamba_host_hit_length=0,
        )  # fmt: skip

    def commit(self, request: Request) -> None:
        """The end of a step of a request."""
        computed = len(request.token)
        if self.last:
            computed = request.extend_end
        if computed == len(request.token):
            request.output_ids.append(0)
            request.token = [*request.token, (request.number + 1) * 1_000_000 + 500_000 + len(request.output_ids)]
        request.done = len(request.output_ids) == request.sampling_params.max_new_tokens
        if request.done or self.last:
            self.keep(request, computed, bool(request.done))
            request.prefix_len = request.protected if request is self.chunked else request.prefix_len


def main(folders: list[str]) -> None:
    """Reads cases, writes their plans in the same order."""
    sys.path[:0] = folders
    install(*BLANK)
    given = [Case(**(raw | {"asks": [Ask(**ask) for ask in raw["asks"]]})) for raw in json.load(sys.stdin)]
    json.dump([Engine(case).run() for case in given], sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
