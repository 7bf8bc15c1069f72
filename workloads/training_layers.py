"""One layer of a training step as operator rows, and what the ends of a model and an update have besides.

Ring context parallelism runs its own chunk of the sequence as a causal block and the others' keys as half-full ones
(two half-chunks of each end of the sequence a device, so that the causal work is even: Brandon et al. 2023, "Striped
attention"; Megatron-LM and Llama 3 do the same). Ulysses exchanges heads for tokens and attends to whole sequences.
"""

from kernels import optable as op
from workloads.models.spec import Attention, Block, FeedForward, ModelSpec
from workloads.rows import ACT_FLOP, ADD_FLOP, NORM_FLOP, ROPE_FLOP
from workloads.training import TrainPlan
from workloads.training_experts import lower_experts
from workloads.training_rows import FORWARD, INPUT_GRAD, WEIGHT_GRAD, Lowered, TrainRows

FUSED = ("flash1", "flash2", "flash3")


def lower_layer(model: ModelSpec, block: Block, plan: TrainPlan, precision: str = "bf16", per_node: int = 8) -> Lowered:
    """One microbatch through one layer on one device: forward, input and weight gradients, exchanges."""
    rows = TrainRows(plan, precision, per_node)
    h, last = model.hidden, not block.parallel
    rows.module = "norm"
    _norm(rows, model)
    rows.module = "attention"
    _enter(rows, "attn", h)
    _attention(rows, block.attention, h, plan)
    if last:
        _leave(rows, "attn", h)
        rows.module = "norm"
        _norm(rows, model)
        rows.module = "mlp"
        if not block.ffn.num_expert:
            _enter(rows, "mlp", h)
    rows.module = "mlp"
    if block.ffn.num_expert:
        rows.module = "moe"
        lower_experts(rows, block.ffn, h, plan)
    if block.ffn.inter:
        _dense(rows, block.ffn, h, plan, "shared" if block.ffn.num_expert else "mlp")
    if not block.ffn.num_expert:
        _leave(rows, "mlp", h)
    rows.module = "norm"
    for _ in range(max(0, block.num_norm - 2)):
        _norm(rows, model, add=False)
    return rows.table()


def _norm(rows: TrainRows, model: ModelSpec, add: bool = True) -> None:
    """A norm and the residual add before it: one kernel (`fused_norm`), or the operators of an eager framework."""
    h, flop = model.hidden, NORM_FLOP[model.norm]
    mask = 0.5 if rows.plan.dropout else 0.0  # a byte a value beside 16-bit ones
    if rows.plan.fused_norm:
        rows.stream("norm", op.ADD, rows.local, h, flop, read=2 if add else 1, write=(2 if add else 1) + mask,
                    back=((3 if add else 2) + mask, 1))  # fmt: skip
        return
    # eager: widened, squared, averaged, scaled, narrowed and weighted, each a pass of its own, some of 32 bits
    rows.stream("norm", op.ADD, rows.local, h, flop, read=10, write=8, back=(20, 14))
    if add:
        rows.stream("residual_add", op.ADD, rows.local, h, ADD_FLOP, read=2, write=1 + mask, back=(2 + mask, 1))


def _enter(rows: TrainRows, name: str, h: int) -> None:
    """What tensor parallelism sends before a split part: all tokens (sequence parallelism), or in the backward pass
    the sum of the input's gradients."""
    whole = rows.token * h * rows.byte
    if rows.plan.sequence_parallel:
        rows.link(f"{name}_gather", op.ALL_GATHER, "tp", whole, back=op.REDUCE_SCATTER)
    else:
        rows.link(f"{name}_sum", op.ALL_REDUCE, "tp", whole, phases=(INPUT_GRAD,))


def _leave(rows: TrainRows, name: str, h: int) -> None:
    whole = rows.token * h * rows.byte
    if rows.plan.sequence_parallel:
        rows.link(f"{name}_scatter", op.REDUCE_SCATTER, "tp", whole, back=op.ALL_GATHER)
    else:
        rows.link(f"{name}_sum", op.ALL_REDUCE, "tp", whole, phases=(FORWARD,))


def _attention(rows: TrainRows, a: Attention, h: int, plan: TrainPlan) -> None:
    m, tp = rows.token, plan.tp
    head = a.num_head // tp
    kv_head = max(1, -(-a.num_kv_head // tp))
    if a.latent:
        rows.linear_map("q_kv_down", m, a.q_rank + a.kv_rank + a.rope_dim, h)
        rows.stream("latent_norm", op.NORM, m, a.q_rank + a.kv_rank, NORM_FLOP["rms"])
        rows.module = "mla_up_proj"
        rows.linear_map("q_up", m, head * a.head_dim, a.q_rank or h)
        rows.linear_map("kv_up", m, head * (a.nope_dim + a.v_head_dim), a.kv_rank)
        kv_head = head
        rows.module = "attention"
    else:
        width = head * a.head_dim + kv_head * (a.head_dim + a.v_head_dim)
        rows.linear_map("qkv", m, width, h, bias=a.qkv_bias)
        rows.stream("qkv_join", op.COPY, m, width, 0.0, read=0, write=0, back=(1, 1))  # three gradients to one
    if a.qk_norm:
        rows.stream("qk_norm", op.NORM, m, (head + kv_head) * a.head_dim, NORM_FLOP["rms"])
    if a.rope_dim:
        rows.stream("rope", op.ROPE, m, (head + (1 if a.latent else kv_head)) * a.rope_dim, ROPE_FLOP, back=(1, 1))
    _core(rows, a, head, kv_head, plan)
    rows.linear_map("attn_out", m, h, head * a.v_head_dim, bias=a.out_bias)


def _core(rows: TrainRows, a: Attention, head: int, kv_head: int, plan: TrainPlan) -> None:
    """Scores, softmax and values of all heads of a device."""
    rows.module = "core_attn"
    seq, cp, batch = plan.seq, plan.cp, plan.micro_batch
    chunk = seq // cp
    both = a.head_dim + a.v_head_dim
    if cp > 1 and plan.ulysses:
        head = max(1, head // cp)
        moved = rows.token * (head * cp + max(kv_head, cp)) * both * rows.byte
        rows.link("heads", op.ALL_TO_ALL, "cp", moved)
        kv_head = max(1, kv_head // cp)
        work = [(batch, seq, seq, 1)]
    elif cp > 1:
        keys = rows.token * kv_head * both * rows.byte
        rows.link("keys", op.P2P, "cp", keys * (cp - 1))
        rows.link("key_grads", op.P2P, "cp", keys * (cp - 1), phases=(INPUT_GRAD,))
        work = [(batch, chunk, chunk, 1), (batch * (cp - 1), chunk, max(1, chunk // 2), 0)]
    else:
        work = [(batch, seq, seq, 1)]
    if plan.attention in FUSED:
        rows.attention((head, kv_head, a.head_dim, a.v_head_dim), a.window, work)
    else:
        _unfused(rows, a, head, plan, seq if cp == 1 or plan.ulysses else chunk)
    rows.module = "attention"


def _unfused(rows: TrainRows, a: Attention, head: int, plan: TrainPlan, own: int) -> None:
    """Attention of `own` queries a sequence as two batched products with the scores in memory between them (a ring:
    those of its own queries with all keys, no score skipped). Fused softmax kernels scale, mask and normalise in one
    pass, plain ones in three."""
    seq, batch = plan.seq, plan.micro_batch * head
    for name, n, k in (("scores", seq, a.head_dim), ("values", a.v_head_dim, seq)):
        rows.gemm(name, own, n, k, narrow=False, batch=batch)
    passes = 1 if plan.attention == "fused_softmax" else 3
    square = float(batch) * own
    for _ in range(passes):
        rows.stream("softmax", op.ADD, square, seq, 5.0 / passes, back=(2 if passes == 1 else 4 / 3, 1))
    if plan.dropout:
        rows.stream("softmax_dropout", op.ADD, square, seq, 1.0, write=1.5, back=(1.5, 1))


def _dense(rows: TrainRows, f: FeedForward, h: int, plan: TrainPlan, name: str) -> None:
    m, inter = rows.token, f.inter // plan.tp
    bias = f.bias and not f.num_expert
    rows.linear_map(f"{name}_up", m, f.num_up * inter, h, bias=bias)
    kept = rows.module
    rows.module = "activation"
    rows.stream(f"{name}_act", op.ACT, m, inter, ACT_FLOP, read=f.num_up, back=(f.num_up + 1, f.num_up))
    rows.module = kept
    rows.linear_map(f"{name}_down", m, h, inter, bias=bias)


def lower_first(model: ModelSpec, plan: TrainPlan, precision: str = "bf16", per_node: int = 8) -> Lowered:
    """The embedding: rows looked up, summed over vocabulary shards, and their gradients scattered."""
    rows = TrainRows(plan, precision, per_node)
    h, m, size = model.hidden, rows.token, float(rows.token) * model.hidden
    rows.add("embed", op.EMBED, FORWARD, m=m, n=h, act_byte=size * rows.byte, write_byte=size * rows.byte)
    if plan.sequence_parallel:
        rows.link("embed", op.REDUCE_SCATTER, "tp", size * rows.byte, back=op.ALL_GATHER)
    else:
        rows.link("embed", op.ALL_REDUCE, "tp", size * rows.byte, phases=(FORWARD,))
    if not plan.lora_rank:
        table = model.vocab / plan.tp * h * rows.byte if plan.zero >= 2 else 0.0  # of zeros, where none is kept
        rows.add("embed", op.EMBED, WEIGHT_GRAD, m=m, n=h, act_byte=size * rows.byte, write_byte=size * rows.byte)
        if table:
            rows.add("embed_zero", op.ADD, WEIGHT_GRAD, write_byte=table)
    return rows.table()


def lower_last(model: ModelSpec, plan: TrainPlan, precision: str = "bf16", per_node: int = 8) -> Lowered:
    """The last norm, the head and the loss. A fused cross entropy reads the 16-bit logits and writes their gradient
    over them; an unfused one goes through two copies in 32 bits."""
    rows = TrainRows(plan, precision, per_node)
    _loss(rows, model, plan)
    for _ in range(plan.mtp):  # the stream and the next tokens' embeddings, each normed, are projected to one stream
        _norm(rows, model, add=False)
        _norm(rows, model, add=False)
        rows.linear_map("mtp_join", rows.local, model.hidden, 2 * model.hidden)
        _loss(rows, model, plan)
    return rows.table()


def _loss(rows: TrainRows, model: ModelSpec, plan: TrainPlan) -> None:
    h, vocab = model.hidden, -(-model.vocab // plan.tp)
    _norm(rows, model, add=False)
    _enter(rows, "head", h)
    rows.gemm("head", rows.token, vocab, h, narrow=False, frozen=plan.lora_rank > 0)
    if plan.gather_logits:
        rows.link("logits", op.ALL_GATHER, "tp", float(rows.token) * model.vocab * rows.byte, phases=(FORWARD,))
        vocab = model.vocab
    if plan.fused_loss:
        rows.stream("loss", op.LOSS, rows.token, vocab, 5.0, read=1, write=0, back=(1, 1))
    else:
        rows.stream("loss", op.LOSS, rows.token, vocab, 5.0, read=3, write=4, back=(4, 3))
    rows.link("loss", op.ALL_REDUCE, "tp", 4.0 * rows.token, phases=(FORWARD, FORWARD, FORWARD))
