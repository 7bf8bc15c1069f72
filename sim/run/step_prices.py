"""Prices of the steps of a set-up: its model's, and before them the passes of a draft model."""

import dataclasses

from kernels.engine.price import HOST_BLOCK, StepPrice
from sim.run.setup import DraftModel, Setup
from sim.serving.adapters import with_adapters
from sim.serving.engine_profile import EngineProfile
from sim.serving.limits import Limits, max_sampled, max_seq, max_token
from sim.serving.plugin import Plugin
from sim.serving.speculation import machine_of
from sim.serving.step_price import HostTime, Lowered, build


def priced(setup: Setup, profile: EngineProfile, policy: Plugin, limits: Limits) -> tuple[StepPrice, Lowered]:
    """Prices of all steps that `policy` can plan, and what they came from."""
    scenario = setup.scenario
    tokens = max_token(policy, limits)
    price, lowered = build(
        setup.model,
        setup.formats,
        setup.placement,
        machine_of(policy, setup.machine),
        max_token=tokens,
        max_seq=max_seq(policy),
        max_sampled=max_sampled(policy, limits),
        skew=setup.expert_skew,
        host=profile.host_time(),
        block_token=setup.store.block_token,
        block_byte=setup.page_byte,
        ffn=setup.ffn,
    )
    if limits.ranks:
        price = with_adapters(price, lowered, limits.ranks)
    if setup.draft is None:
        return price, lowered
    passes, drafted = draft_price(setup.draft, profile.host_time(), tokens, scenario.block_token)
    price.host_ps[HOST_BLOCK] += passes.host_ps[HOST_BLOCK]  # a swapped block takes the draft model's KV along
    return price._replace(draft=passes), dataclasses.replace(lowered, draft=drafted)


def draft_price(draft: DraftModel, host: HostTime, max_token: int, block_token: int) -> tuple[StepPrice, Lowered]:
    """Prices of a draft model's passes. Of the host's time they have what belongs to layers and kernels; what is done
    once a step (scheduling, inputs, detokenization) stands in the verification's."""
    own = HostTime(
        layer_s=host.layer_s, dispatch_layer_s=host.dispatch_layer_s, graph_token=host.graph_token,
        kernel_factor=host.kernel_factor, decode_factor=host.decode_factor, prefill_factor=host.prefill_factor,
        unshared=host.unshared, block_expert_s=host.block_expert_s, fused=host.fused, fused_group=host.fused_group,
        reduce_byte=host.reduce_byte, reduce_byte_per_s=host.reduce_byte_per_s, device_s=host.device_s,
    )  # fmt: skip
    return build(
        draft.model, draft.formats, draft.placement, draft.machine, max_token=max_token, max_seq=max_token, host=own,
        block_token=block_token,
    )  # fmt: skip
