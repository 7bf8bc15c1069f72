"""Operators of recurrent, sparse and one-part layers: FLOPs and bytes by hand arithmetic, and what is refused."""

import dataclasses
import importlib.util
import sys

import numpy as np
import pytest

from kernels import optable as op
from kernels.errors import InputError
from tests.workloads.published_configs import DEEPSEEK_V3, PUBLISHED, QWEN3_NEXT
from tests.workloads.published_newer import NEWER
from workloads import formats, kv, models, placement
from workloads.lowering import Plan, lower_attention, lower_dense, lower_step, work_rows
from workloads.models.catalogue import from_dict
from workloads.models.spec import NO_ATTENTION, Block
from workloads.unroll import unroll_step

TYPED = {name: from_dict(said.config, name) for name, said in (PUBLISHED | NEWER).items()}
APART = [b"hc_map", b"pool", b"index_pool", b"index_weight", b"mix_gate"]  # whose weights count among the small ones
PRICED = sorted(name for name, model in TYPED.items() if not model.unpriced)


def plan(query_len, kv_len, decode):
    num = len(query_len)
    return Plan(np.array(query_len), np.array(kv_len), np.full(num, decode), np.full(num, True))


def total(ops, *fields):
    return float(sum((ops[field] * ops["count"]).sum() for field in fields))


@pytest.mark.parametrize("name", PRICED)
@pytest.mark.parametrize("decode", [True, False])
def test_layer_by_layer_is_the_same_work(name, decode):
    model = TYPED[name]
    place = placement.make(model)
    steps = plan([1, 1], [500, 900], True) if decode else plan([64, 100], [64, 300], False)
    ops, _ = lower_step(model, formats.of(model), place, 0, steps)
    unrolled, _ = unroll_step(model, formats.of(model), place, 0, steps)
    for field in ("flop", "weight_byte", "act_byte", "kv_byte", "write_byte"):
        assert total(ops, field) == pytest.approx(total(unrolled, field), rel=1e-12)


@pytest.mark.parametrize("name", PRICED)
def test_a_prompt_token_costs_two_flop_a_weight_that_it_meets(name):
    model = TYPED[name]  # weights that several layers share are met in each
    model = dataclasses.replace(model, block=tuple(dataclasses.replace(each, twin=False) for each in model.block))
    ops = lower_dense(model, formats.of(model), placement.make(model), 0, 4096)
    gemm = ops[np.isin(ops["kind"], [op.GEMM, op.MOE]) & ~np.isin(ops["name"], APART)]
    apart = models.num_param(model) - sum(
        t.value * t.count for t in models.tensors(model) if t.part in ("attention", "mixer", "ffn", "router", "expert")
    )  # embeddings, norms, convolutions
    met = models.num_active_param(model) - apart
    assert total(gemm, "flop") / (2 * 4096) == pytest.approx(met, rel=0.01)


def test_a_decode_step_reads_and_writes_each_state_once():
    model = from_dict(QWEN3_NEXT | {"mamba_ssm_dtype": "float32"}, "x")
    work = work_rows([1] * 8, [100] * 8)
    ops = lower_attention(model, formats.of(model), placement.make(model), 0, work, "decode")
    scan, conv = ops[ops["name"] == b"scan"][0], ops[ops["name"] == b"conv"][0]
    state = 32 * 128 * 128 * 4
    assert (scan["count"], conv["count"]) == (36, 36)
    assert scan["write_byte"] == 8 * (state + 32 * 128 * 2)
    assert scan["flop"] == 8 * 32 * 7 * 128 * 128
    states = {g.name: g.unit_byte for g in kv.groups(model, formats.of(model), placement.make(model))}
    assert states["recurrent"] == state
    assert conv["write_byte"] == 8 * (8192 * 2 + states["conv"])


def test_a_longer_context_costs_recurrent_layers_nothing():
    model = TYPED["Qwen3-Next-80B-A3B"]

    def scans(length):
        steps = plan([1] * 4, [length] * 4, True)
        ops, _ = lower_step(model, formats.of(model), placement.make(model), 0, steps)
        return ops[np.isin(ops["name"], [b"scan", b"conv"])], ops[ops["name"] == b"attention"]

    (short, near), (long, far) = scans(100), scans(100_000)
    assert (short == long).all()
    assert total(far, "kv_byte") == 1000 * total(near, "kv_byte")


def test_sparse_layers_read_their_choice_and_score_everything():
    model = from_dict(DEEPSEEK_V3 | {"model_type": "deepseek_v32", "index_head_dim": 128, "index_n_heads": 64,
                                     "index_topk": 2048}, "x")  # fmt: skip
    ops = lower_attention(
        model, formats.of(model), placement.make(model, tp=8), 0, work_rows([1] * 4, [65_536] * 4), "decode"
    )
    sparse, scorer = ops
    assert (sparse["window"], sparse["num_head"], sparse["kv_byte"]) == (2048, 16, 4 * 2048 * 576 * 2)
    assert (scorer["window"], scorer["num_head"], scorer["kv_byte"]) == (0, 64, 4 * 65_536 * 128)  # on every device
    assert scorer["flop"] == 2 * 4 * 65_536 * 64 * 128
    prompt = lower_attention(model, formats.of(model), placement.make(model), 0, work_rows([8192], [8192]), "prefill")
    pairs = 2048 * 2049 / 2 + (8192 - 2048) * 2048
    assert prompt[0]["flop"] == 2 * pairs * 128 * (576 + 512)  # in latent space, prompts too


def test_block_sparse_layers_beside_full_ones():
    model = TYPED["MiniMax-M3"]
    ops = lower_attention(model, formats.of(model), placement.make(model), 0, work_rows([1], [100_000]), "decode")
    assert [(int(row["count"]), int(row["window"]), int(row["num_head"])) for row in ops] == [
        (3, 0, 64), (57, 2048, 64), (57, 0, 4)
    ]  # fmt: skip


def test_layers_of_one_part_have_its_operators_alone():
    model = TYPED["Nemotron-3-Nano-30B-A3B"]
    ops = lower_dense(model, formats.of(model), placement.make(model), 0, 16)
    count = {row["name"].decode(): 0 for row in ops}
    for row in ops:
        count[row["name"].decode()] += int(row["count"])
    assert (count["attn_norm"], count["mlp_norm"]) == (23 + 6, 23)
    assert (count["mix_in"], count["qkv_proj"], count["experts"], count["shared_up"]) == (23, 6, 23, 23)


def test_both_parts_of_a_parallel_hybrid_read_one_norm():
    ops = lower_dense(TYPED["Falcon-H1-7B"], formats.Formats(), placement.make(TYPED["Falcon-H1-7B"]), 0, 16)
    names = [row["name"].decode() for row in ops]
    assert names.count("attn_norm") == 1
    assert names.count("o_proj") == 2
    assert "branch_add" in names


def test_latent_experts_are_narrow():
    model = TYPED["Nemotron-3-Super-120B-A12B"]
    ops = lower_dense(model, formats.Formats(), placement.make(model), 0, 16)
    experts = ops[ops["name"] == b"experts"][0]
    down, up = (ops[ops["name"] == name][0] for name in (b"latent_down", b"latent_up"))
    assert experts["k"] == 1024
    assert (down["k"], down["n"], up["k"], up["n"]) == (4096, 1024, 1024, 4096)


def test_compressed_attention_reads_a_window_and_a_share():
    model = TYPED["DeepSeek-V4-Flash"]
    place = placement.make(model)
    ops = lower_attention(model, formats.of(model), place, 0, work_rows([1] * 4, [65_536] * 4), "decode")
    named = {}
    for row in ops:
        named.setdefault(row["name"].decode(), []).append(row)
    keys = {2: 128, 21: 128 + 512, 20: 128 + 65_536 // 128}  # the window alone, picked entries, all entries of 128
    for row in named["attention"]:
        seen = keys[int(row["count"])]
        assert row["flop"] == 4 * 4 * seen * 64 * 512
        assert row["act_byte"] == 4 * (seen * 512 * 2 + 64 * 512 * 2)
    score = named["index_score"][0]
    assert (score["count"], score["flop"]) == (21, 2 * 4 * (65_536 / 4) * 64 * 128)
    short = lower_attention(model, formats.of(model), place, 0, work_rows([1], [100]), "decode")
    assert sorted({float(row["flop"]) for row in short if row["name"] == b"attention"}) == [
        4 * 64 * 512 * keys for keys in (100, 100 + 100 / 128, 125)
    ]  # fmt: skip


def test_hyper_connections_replace_the_residual_adds():
    model = TYPED["DeepSeek-V4-Flash"]
    ops = lower_dense(model, formats.of(model), placement.make(model), 0, 8)
    assert not np.isin(ops["name"], [b"attn_add", b"mlp_add"]).any()
    post = ops[ops["name"] == b"hc_post"]
    assert total(post, "act_byte", "write_byte") == 43 * 2 * 8 * (4 + 1 + 4) * 4096 * 2


def test_joins_of_earlier_layers_grow_with_depth():
    k3 = {"routed_expert_hidden_size": 1152, "latent_moe_use_norm": True, "attn_res_block_size": 12,
          "mla_use_output_gate": True}  # fmt: skip
    model = from_dict(PUBLISHED["Kimi-Linear-48B-A3B"].config | k3, "x")
    ops = lower_dense(model, formats.of(model), placement.make(model), 0, 8)
    joins = ops[ops["name"] == b"res_join"]
    read = 12 * 2 + 12 * 3 + 3 * 4  # 27 layers in blocks of 12: two, three and four inputs
    assert total(joins, "act_byte") == 2 * 8 * read * 2304 * 2


NEW_KIND = """
from dataclasses import dataclass

from workloads.models.layers.base import State, conv_row
from workloads.models.tensor import Tensor
from workloads.work import work_size


@dataclass(frozen=True)
class Average:
    \"""A running mean of the hidden state, projected.\"""

    num_head: int
    width: int

    def tensors(self, hidden):
        return [Tensor("mix_out", "mixer", hidden * hidden, 1, "tp")]

    def states(self):
        return (State("mean", self.width, 4.0),)

    def lower(self, rows, hidden):
        rows.gemm("o_proj", rows.m, hidden, hidden // rows.placement.tp, "mixer")

    def scan(self, rows, work, decode):
        conv_row(rows, self.width // rows.placement.tp, 1, *work_size(work))
"""


def test_a_new_layer_kind_is_one_file(tmp_path):
    """Its weights, its state and its operators are found by everything that asks a model."""
    path = tmp_path / "average.py"
    path.write_text(NEW_KIND)
    spec = importlib.util.spec_from_file_location("average", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["average"] = module  # dataclasses look their own module up
    spec.loader.exec_module(module)
    llama = models.load("llama-3-8b")
    plain = llama.block[0]
    own = Block(NO_ATTENTION, plain.ffn, mixer=module.Average(8, 4096))
    mixed = dataclasses.replace(llama, block=(plain, own), layer=(0, 1) * 16)
    attention = 4096 * 4096 * 2 + 2 * 4096 * 1024
    assert models.num_param(llama) - models.num_param(mixed) == 16 * (attention - 4096 * 4096)
    place = placement.make(mixed, tp=2)
    kept = kv.groups(mixed, formats.Formats(), place)
    assert (kv.token_byte(kept), kv.state_byte(kept)) == (131_072 / 2 / 2, 16 * 4096 * 4 / 2)
    ops, _ = lower_step(mixed, formats.Formats(), place, 0, plan([1, 1], [10, 20], True))
    assert ops[ops["name"] == b"conv"]["count"].tolist() == [16]
    assert ops[ops["name"] == b"attention"]["count"].tolist() == [16]


@pytest.mark.parametrize(("name", "field"), [("gemma-3n", "altup_num_inputs")])
def test_what_is_not_priced_is_refused_by_its_field(name, field):
    small = {"model_type": "gemma3n", "text_config": {"model_type": "gemma3n_text", "hidden_size": 2048,
             "num_hidden_layers": 30, "intermediate_size": [8192] * 30, "vocab_size": 262400}}  # fmt: skip
    model = from_dict(small, name)
    with pytest.raises(InputError, match=field):
        lower_step(model, formats.Formats(), placement.make(model), 0, plan([1], [1], True))
    with pytest.raises(InputError, match=field):
        lower_dense(model, formats.Formats(), placement.make(model), 0, 1)
