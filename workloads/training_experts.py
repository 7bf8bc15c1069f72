"""The experts of a layer as operator rows of training: router, dispatch, products of each expert's rows, combine.

Loads are by the law of serving (`workloads.experts`). Training software runs grouped products of the library (each
expert's rows lie together after the permutation, and each has two gradients), not the fused kernels of serving engines,
which have no backward pass.
"""

from kernels import optable as op
from workloads.experts import distinct_node, distinct_rank, fullest_rank
from workloads.models.spec import FeedForward
from workloads.rows import ACT_FLOP
from workloads.training import TrainPlan
from workloads.training_rows import FORWARD, INPUT_GRAD, TrainRows


def lower_experts(rows: TrainRows, f: FeedForward, h: int, plan: TrainPlan) -> None:
    """Router, dispatch, grouped products over the experts of a device, combine."""
    etp = plan.expert_tp
    own = rows.token / plan.tp if plan.tp > 1 and (plan.sequence_parallel or etp == 1) else float(rows.token)
    rows.gemm("router", own, f.num_expert, h, narrow=False)
    rows.stream("route", op.ADD, own, f.num_expert, 5.0, byte=4.0)
    copies = float(f.topk)
    sent = plan.dispatch_byte or rows.byte
    nodes = rows.num_node("ep")
    if plan.dispatch == "deepep":
        copies = distinct_rank(f.num_expert, f.topk, plan.ep)
        if nodes > 1:  # once to each node, then on inside it under the network's time
            copies = distinct_node(f.num_expert, f.topk, nodes, plan.node_limit)
    narrow_sent = _narrow_sent(rows, plan)
    if narrow_sent:  # narrowed where they are, once, not where their copies arrive
        rows.add("dispatch_quant", op.CONVERT, FORWARD, fmt=rows.linear, m=round(own), n=h, flop=2.0 * own * h,
                 act_byte=own * h * rows.byte, write_byte=own * h * sent)  # fmt: skip
    got = distinct_rank(f.num_expert, f.topk, plan.ep)  # copies of a token that arrive, on all devices
    away = plan.ep > 1
    if plan.dispatch == "deepep" and away:  # sent as they lie; copies that arrive are laid out by expert
        _exchange(rows, f, "dispatch", own, h, copies, sent)
        share = sent / rows.byte
        rows.stream("permute", op.ADD, own, h, 0.0, read=got * share, write=f.topk * share, back=(f.topk, got))
    else:  # laid out by expert, sent to their devices, and there by expert once more
        rows.stream("permute", op.ADD, own, h, 0.0, read=1, write=f.topk, back=(f.topk, 1))
        _exchange(rows, f, "dispatch", own, h, copies, sent)
        _sort(rows, f, "sort", own, h)
    if etp > 1:
        rows.link("gather", op.ALL_GATHER, "etp", own * etp * f.topk * h * rows.byte, back=op.REDUCE_SCATTER)
    # the rows of the fullest rank over its experts, each a product of its own
    group = own * plan.ep * (etp if own < rows.token else 1)
    row, active = fullest_rank(group, f.num_expert, f.topk, plan.ep, plan.skew)
    local = max(1, round(active))
    each = max(1.0, row / local)
    width = f.expert_inter / etp
    rows.linear_map("expert_up", each, f.num_up * width, h, batch=local, narrowed=narrow_sent)
    rows.module = "activation"
    rows.stream("expert_act", op.ACT, each * local, width, ACT_FLOP, read=f.num_up, back=(f.num_up + 1, f.num_up))
    rows.module = "moe"
    rows.linear_map("expert_down", each, h, width, batch=local)
    if etp > 1:
        rows.link("scatter", op.REDUCE_SCATTER, "etp", own * etp * f.topk * h * rows.byte, back=op.ALL_GATHER)
    if plan.dispatch == "deepep" and away:  # summed by device, then on the way
        rows.stream("unpermute", op.ADD, own, h, f.topk, read=f.topk, write=got, back=(got, f.topk))
        _exchange(rows, f, "combine", own, h, copies, sent)
    else:
        _sort(rows, f, "unsort", own, h)
        _exchange(rows, f, "combine", own, h, copies, sent)
        rows.stream("unpermute", op.ADD, own, h, f.topk, read=f.topk, write=1, back=(1, f.topk))
    if plan.global_balance:  # the loads of all experts, summed over the whole batch's ranks
        rows.link("balance", op.ALL_REDUCE, "dp", 4.0 * f.num_expert, phases=(FORWARD,))


def _narrow_sent(rows: TrainRows, plan: TrainPlan) -> bool:
    """Whether tokens go to their experts in the format of the experts' products."""
    return plan.ep > 1 and plan.dispatch_byte == 1.0 and rows.linear != rows.wide


def _sort(rows: TrainRows, f: FeedForward, name: str, own: float, h: int) -> None:
    """Rows from several devices, laid out by local expert (or back): a copy, where there is more than one of either."""
    if rows.plan.ep > 1 and f.num_expert > rows.plan.ep:
        rows.stream(name, op.ADD, own, h, 0.0, read=f.topk, write=f.topk, back=(f.topk, f.topk))


def _exchange(rows: TrainRows, f: FeedForward, name: str, token: float, h: int, copies: float, sent: float) -> None:
    """Tokens to their experts or results back, `copies` rows a token: what goes to the experts takes `sent` bytes a
    value, what comes back the stream's. Backward the gradients go the other way. One kernel family (`deepep`), or a
    plain all-to-all that sends a copy for each expert."""
    wide = rows.byte
    there, back = (op.DISPATCH, sent), (op.COMBINE, wide)
    # gradients of results go to the experts, those of rows come back and are summed
    pair = (there, (op.COMBINE, wide)) if name == "dispatch" else (back, (op.DISPATCH, sent))
    for phase, (kind, byte) in zip((FORWARD, INPUT_GRAD), pair, strict=True):
        moved = token * copies * h * byte
        if rows.plan.dispatch != "deepep":
            rows.link(name, op.ALL_TO_ALL, "ep", moved, phases=(phase,))
        elif rows.plan.ep > 1:
            row = int(h * (byte + (1 / 32 if byte == 1 else 0)))  # narrow values carry an fp32 scale for 128 of them
            rows.add(f"ep_{name}", kind, phase, m=round(token), n=row, topk=f.topk, num_expert=f.num_expert,
                     group_size=rows.plan.ep, group_node=rows.num_node("ep"), window=rows.plan.node_limit,
                     link_byte=moved)  # fmt: skip
