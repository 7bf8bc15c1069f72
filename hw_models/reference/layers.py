"""One decoder layer on torch: norms, projections, rotary positions, attention on cached keys, feed-forward.

A layer caches one vector a token: keys then values of its KV heads, or with latent attention the latent and
its rotary part, which decode reads once for all heads (the absorbed form).
"""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

Attend = Callable[[torch.Tensor, torch.Tensor, Any], torch.Tensor]
Weight = Callable[..., torch.Tensor]


@dataclasses.dataclass(frozen=True)
class Layer:
    """Weights by name and the description they were built from."""

    block: Any
    weight: dict[str, torch.Tensor]


def cache_width(attention: Any) -> int:
    """Cached values a token of one layer."""
    if attention.kv_rank > 0:
        return int(attention.kv_rank + attention.rope_dim)
    return int(attention.num_kv_head * (attention.head_dim + attention.v_head_dim))


def build(block: Any, hidden: int, weight: Weight) -> Layer:
    """Random weights of one layer, [out, in] as torch's linear has them."""
    a, f = block.attention, block.ffn
    w: dict[str, torch.Tensor] = {"o": weight(hidden, a.num_head * a.v_head_dim)}
    if a.kv_rank > 0:
        if a.q_rank:
            w["q_down"] = weight(a.q_rank, hidden)
        w["q"] = weight(a.num_head * a.head_dim, a.q_rank or hidden)
        w["kv_down"] = weight(a.kv_rank + a.rope_dim, hidden)
        w["k_up"] = weight(a.num_head, a.head_dim - a.rope_dim, a.kv_rank)
        w["v_up"] = weight(a.num_head, a.v_head_dim, a.kv_rank)
    else:
        w["qkv"] = weight(a.num_head * a.head_dim + a.num_kv_head * (a.head_dim + a.v_head_dim), hidden)
    num_up = 2 if f.gated else 1
    if f.inter:
        w["up"], w["down"] = weight(num_up * f.inter, hidden), weight(hidden, f.inter)
    if f.num_expert:
        w["router"] = weight(f.num_expert, hidden)
        w["expert_up"] = weight(f.num_expert, num_up * f.expert_inter, hidden)
        w["expert_down"] = weight(f.num_expert, hidden, f.expert_inter)
    return Layer(block, w)


def run(
    layer: Layer, x: torch.Tensor, position: torch.Tensor, slot: torch.Tensor, cache: torch.Tensor, attend: Attend
) -> torch.Tensor:
    """One layer on tokens `x` [token, hidden]; writes their keys into `cache` at `slot`."""
    attended = functional.linear(_attention(layer, norm(x), position, slot, cache, attend), layer.weight["o"])
    if layer.block.parallel:
        return x + attended + _feed_forward(layer, norm(x))
    x = x + attended
    return x + _feed_forward(layer, norm(x))


def norm(x: torch.Tensor) -> torch.Tensor:
    """Root-mean-square norm with unit weights."""
    return functional.rms_norm(x, x.shape[-1:], eps=1e-5)


def _attention(
    layer: Layer, x: torch.Tensor, position: torch.Tensor, slot: torch.Tensor, cache: torch.Tensor, attend: Attend
) -> torch.Tensor:
    a, w = layer.block.attention, layer.weight
    token = x.shape[0]
    flat = cache.view(-1, cache.shape[-1])
    if a.kv_rank > 0:
        q = functional.linear(norm(functional.linear(x, w["q_down"])) if a.q_rank else x, w["q"])
        q = q.view(token, a.num_head, a.head_dim)
        nope, rope = q[..., : a.head_dim - a.rope_dim], q[..., a.head_dim - a.rope_dim :]
        absorbed = torch.einsum("thd,hdr->thr", nope, w["k_up"])
        latent = functional.linear(x, w["kv_down"])
        key_rope = rotate(latent[:, None, a.kv_rank :], position)[:, 0]
        flat[slot] = torch.cat([norm(latent[:, : a.kv_rank]), key_rope], -1)
        out = attend(torch.cat([absorbed, rotate(rope, position)], -1), cache, a)
        return torch.einsum("thr,hvr->thv", out, w["v_up"]).flatten(1)
    qk, v = functional.linear(x, w["qkv"]).split(
        [(a.num_head + a.num_kv_head) * a.head_dim, a.num_kv_head * a.v_head_dim], -1
    )
    qk = qk.view(token, a.num_head + a.num_kv_head, a.head_dim)
    if a.qk_norm:
        qk = norm(qk)
    if a.rope_dim:
        qk = rotate(qk, position) if a.rope_dim == a.head_dim else _rotate_part(qk, position, a.rope_dim)
    q, k = qk[:, : a.num_head], qk[:, a.num_head :]
    flat[slot] = torch.cat([k.flatten(1), v], -1)
    return attend(q, cache, a).flatten(1)


def _rotate_part(x: torch.Tensor, position: torch.Tensor, rope_dim: int) -> torch.Tensor:
    return torch.cat([rotate(x[..., :rope_dim], position), x[..., rope_dim:]], -1)


def rotate(x: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
    """Rotary positions on the last dimension of [token, head, dim]."""
    half = x.shape[-1] // 2
    frequency = torch.logspace(0, -4, half, device=x.device, dtype=torch.float32)
    angle = position[:, None, None].float() * frequency
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    low, high = x[..., :half], x[..., half : 2 * half]
    return torch.cat([low * cos - high * sin, high * cos + low * sin, x[..., 2 * half :]], -1)


def gather(cache: torch.Tensor, block: torch.Tensor) -> torch.Tensor:
    """What the blocks numbered `block` cache, one after the other: [token, width]. Whole blocks are copied; indexing
    would go value by value on a processor, at a third of the rate in 16 bits."""
    return cache.index_select(0, block.flatten()).flatten(0, 1)


def _keys(keys: torch.Tensor, a: Any) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Cached vectors [batch, kv, width] as keys and values [batch, kv head, kv, dim], and the score scale."""
    if a.kv_rank > 0:
        return keys[:, None], keys[:, None, :, : a.kv_rank], a.head_dim**-0.5
    k, v = keys.split([a.num_kv_head * a.head_dim, a.num_kv_head * a.v_head_dim], -1)
    k = k.unflatten(-1, (a.num_kv_head, a.head_dim)).transpose(1, 2)
    return k, v.unflatten(-1, (a.num_kv_head, a.v_head_dim)).transpose(1, 2), a.head_dim**-0.5


def attend_prefill(q: torch.Tensor, keys: torch.Tensor, a: Any) -> torch.Tensor:
    """`q` [token, head, dim] of one sequence on its cached `keys` [1, kv, width], causal at the end."""
    k, v, scale = _keys(keys, a)
    rows, kv_len = q.shape[0], k.shape[2]
    mask = None
    if rows > 1 or a.window:
        query = torch.arange(kv_len - rows, kv_len, device=q.device)[:, None]
        key = torch.arange(kv_len, device=q.device)[None]
        mask = key <= query
        if a.window:
            mask = mask & (key > query - a.window)
    causal = mask is not None and rows == kv_len and not a.window  # the fused kernel needs no mask tensor
    out = functional.scaled_dot_product_attention(
        q.transpose(0, 1)[None], k, v, attn_mask=None if causal else mask, is_causal=causal, scale=scale,
        enable_gqa=q.shape[1] != k.shape[1],
    )  # fmt: skip
    return out[0].transpose(0, 1)


def attend_decode(q: torch.Tensor, keys: torch.Tensor, kv_len: torch.Tensor, a: Any) -> torch.Tensor:
    """One row a sequence: `q` [batch, head, dim] on padded `keys` [batch, kv, width] of `kv_len` valid each.
    Query heads of one KV head are rows of one tile, so that its keys are read once."""
    k, v, scale = _keys(keys, a)
    batch, heads = q.shape[:2]
    index = torch.arange(k.shape[2], device=q.device)
    mask = index[None] < kv_len[:, None]
    if a.window:
        mask = mask & (index[None] >= kv_len[:, None] - a.window)
    packed = q.reshape(batch, k.shape[1], heads // k.shape[1], q.shape[-1])
    out = functional.scaled_dot_product_attention(packed, k, v, attn_mask=mask[:, None, None], scale=scale)
    return out.reshape(batch, heads, v.shape[-1])


def _feed_forward(layer: Layer, x: torch.Tensor) -> torch.Tensor:
    f, w = layer.block.ffn, layer.weight
    out = torch.zeros_like(x)
    if f.inter:
        out = functional.linear(_gate(functional.linear(x, w["up"]), f.gated), w["down"])
    if f.num_expert:
        weight, expert = functional.linear(x, w["router"]).float().softmax(-1).topk(f.topk)
        out = out + _experts(f, w, x, weight.to(x.dtype), expert)
    return out


def _experts(
    f: Any, w: dict[str, torch.Tensor], x: torch.Tensor, weight: torch.Tensor, expert: torch.Tensor
) -> torch.Tensor:
    order = expert.flatten().argsort()
    token = order // f.topk
    one = torch.ones(1, dtype=torch.int64, device=x.device).expand(expert.numel())
    load = torch.zeros(f.num_expert, dtype=torch.int64, device=x.device).index_add_(0, expert.flatten(), one)
    ends = load.cumsum(0)  # counted without a transfer to the host, which a captured graph could not hold
    gathered = x[token]
    if x.device.type == "cuda" and x.dtype == torch.bfloat16:
        offs = ends.to(torch.int32)
        inner = _gate(torch._grouped_mm(gathered, w["expert_up"].transpose(1, 2), offs=offs), f.gated)
        done = torch._grouped_mm(inner, w["expert_down"].transpose(1, 2), offs=offs)
    else:
        bounds = [0, *ends.tolist()]
        parts = [
            functional.linear(_gate(functional.linear(gathered[a:b], w["expert_up"][e]), f.gated), w["expert_down"][e])
            for e, (a, b) in enumerate(itertools.pairwise(bounds))
            if b > a
        ]
        done = torch.cat(parts)
    return torch.zeros_like(x).index_add_(0, token, done * weight.flatten()[order][:, None])


def _gate(x: torch.Tensor, gated: bool) -> torch.Tensor:
    if not gated:
        return functional.gelu(x)
    gate, up = x.chunk(2, dim=-1)
    return functional.silu(gate) * up
