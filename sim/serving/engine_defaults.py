"""What a serving engine decides by itself about memory and the size of its steps, where nobody says otherwise."""

from dataclasses import dataclass

GIB = 1 << 30


@dataclass(frozen=True)
class Memory:
    """How an engine shares a device's memory (table `memory` of its profile).

    KV gets `share` of what the driver reports, less the weights, the larger of a forward pass's activations and the
    sampler's peak, and what lies outside the framework's allocator. With `static` the share is of weights and KV alone
    (SGLang: activations live in the rest); with `of_free` it is of what these leave (TensorRT-LLM).
    """

    share: float = 0.9
    static: bool = False
    of_free: bool = False
    sampled_byte: float = 6.0  # at the sampler's peak, a sequence and entry of the vocabulary: logits in 16 and 32 bits
    outside_byte: float = 0.0  # outside the allocator: context, libraries
    outside_group_byte: float = 0.0  # the same where devices work as one group (tensor parallelism)
    graph_byte: float = 0.0  # CUDA graphs, where the version counts them
    source: str = ""

    def beside(self, tp: int) -> float:
        """Bytes of a device that are neither weights, activations nor KV."""
        return (self.outside_group_byte if tp > 1 else self.outside_byte) + self.graph_byte


@dataclass(frozen=True)
class StepLimit:
    """Tokens and sequences of a step on devices of so much memory (tables `step_limit` of a profile, the first that
    holds counts)."""

    from_byte: int  # of a device, as the driver reports it
    server_token: int
    offline_token: int
    max_seq: int
    not_named: str = ""  # devices of this name take a later one
    policy: str = "vllm_v1"  # whose limits these are


def step_limit(limits: tuple[StepLimit, ...], policy: str, device: str, device_byte: float) -> StepLimit | None:
    """The limits that an engine takes for a policy on a device; None: the policy's own.

    >>> big, small = StepLimit(70 * GIB, 8192, 16384, 1024, "a100"), StepLimit(0, 2048, 8192, 256)
    >>> [step_limit((big, small), "vllm_v1", name, 79.1 * GIB).max_seq for name in ("h100_sxm", "a100_sxm_80gb")]
    [1024, 256]
    """
    for limit in limits:
        named = limit.not_named and limit.not_named in device
        if limit.policy == policy and device_byte >= limit.from_byte and not named:
            return limit
    return None
