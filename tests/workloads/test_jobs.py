"""Jobs as their own software writes them: what is understood, what is neutral, what is refused by name."""

import json
import pathlib
from typing import Any

import pytest

from kernels.errors import InputError
from workloads.jobs import Job, read
from workloads.jobs.text import arguments
from workloads.models.tensors import num_param

SCRIPT = """#!/bin/bash
# a comment with --tensor-model-parallel-size 99
TP=${TP:-8}
LAYERS=32
ARGS=(
    --num-layers $LAYERS --hidden-size 4096
    --ffn-hidden-size 14336 --num-attention-heads 32
    --group-query-attention --num-query-groups 8
    "--seq-length 8192"
    --max-position-embeddings 8192 --position-embedding-type rope
    --attention-dropout 0.0 --hidden-dropout 0.0
    --swiglu --normalization RMSNorm --disable-bias-linear
    --untie-embeddings-and-output-weights --vocab-size 128256
)
torchrun --nproc_per_node 8 --nnodes 4 pretrain_gpt.py ${ARGS[@]} \\
    --tensor-model-parallel-size ${TP} --pipeline-model-parallel-size 2 --sequence-parallel \\
    --micro-batch-size 2 --global-batch-size 64 --bf16 --lr 3e-4 --log-interval 1 \\
    EXTRA
"""
TITAN: dict[str, Any] = {
    "model": {"name": "llama3", "flavor": "8B"}, "training": {"local_batch_size": 2, "seq_len": 8192, "compile": True},
    "activation_checkpoint": {"mode": "full"}, "metrics": {"log_freq": 10}, "optimizer": {"lr": 3e-4},
}  # fmt: skip
SPEED: dict[str, Any] = {
    "train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 2, "bf16": {"enabled": True},
    "zero_optimization": {"stage": 2, "overlap_comm": True, "reduce_bucket_size": "auto"}, "steps_per_print": 10,
}  # fmt: skip


def megatron(tmp_path: pathlib.Path, extra: str = "", **more: Any) -> Job:
    (tmp_path / "run.sh").write_text(SCRIPT.replace("EXTRA", extra))
    return read(tmp_path / "run.sh", **more)


def titan(tmp_path: pathlib.Path, **section: Any) -> Job:
    content = {name: {**TITAN.get(name, {}), **section.get(name, {})} for name in {**TITAN, **section}}
    lines = [f"[{name}]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in values.items())
             for name, values in content.items()]  # fmt: skip
    (tmp_path / "job.toml").write_text("\n".join(lines))
    return read(tmp_path / "job.toml", num_device=16)


def speed(tmp_path: pathlib.Path, **more: Any) -> Job:
    (tmp_path / "ds.json").write_text(json.dumps(SPEED | more))
    return read(tmp_path / "ds.json", num_device=8)


def test_a_script_of_megatron_is_a_plan_and_a_model(tmp_path: pathlib.Path) -> None:
    job = megatron(tmp_path)
    plan = job.plan
    assert (plan["tp"], plan["pp"], plan["dp"], plan["cp"], job.num_device) == (8, 2, 2, 1, 32)
    assert (plan["micro_batch"], plan["batch"], plan["seq"], job.precision) == (2, 64, 8192, "bf16")
    assert plan["sequence_parallel"] is True
    assert plan["zero"] == 0
    assert plan["dropout"] is False
    assert plan["fused_loss"] is False  # the software's own default
    assert job.factor == {"exposed": 1.0}  # gradients are not overlapped unless it is said
    assert job.model is not None
    assert num_param(job.model) == pytest.approx(8.03e9, rel=0.001)  # a Llama of 8 B
    assert job.model.vocab == 129024  # padded to a multiple of 128 x 8
    assert job.neutral == ("log-interval", "lr")
    names = [name for name, _, _ in job.understood]
    assert "tensor-model-parallel-size" in names
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("extra", "field", "value"),
    [
        ("--num-layers-per-virtual-pipeline-stage 4", "interleave", 4),
        ("--num-virtual-stages-per-pipeline-rank 2", "schedule", "interleaved-1f1b"),
        ("--decoder-first-pipeline-num-layers 15", "layout", (15, 17)),
        ("--pipeline-model-parallel-layout E(t|)*1t*15|(tt)*8L", "layout", (1, 15, 16)),
        ("--recompute-activations", "recompute", "core_attn"),
        ("--recompute-granularity full --recompute-method uniform --recompute-num-layers 1", "recompute", "full"),
        ("--recompute-granularity selective --recompute-modules layernorm mlp", "recompute", "norm+mlp"),
        ("--use-distributed-optimizer", "zero", 1),
        ("--use-megatron-fsdp --data-parallel-sharding-strategy optim_grads_params", "zero", 3),
        ("--grad-reduce-in-bf16", "grad_byte", 2.0),
        ("--use-precision-aware-optimizer --exp-avg-dtype bf16 --exp-avg-sq-dtype bf16", "optimizer_byte", 8.0),
        ("--optimizer sgd", "optimizer_byte", 8.0),
        ("--optimizer-cpu-offload --optimizer-offload-fraction 0.5", "optimizer_offload", 0.5),
        ("--no-gradient-accumulation-fusion", "fused_accumulation", False),
        ("--no-overlap-p2p-communication", "blocking_hop", True),
        ("--cross-entropy-loss-fusion", "fused_loss", True),
        ("--attention-backend unfused", "attention", "unfused"),
        ("--attention-backend local --no-masked-softmax-fusion", "attention", "unfused"),
        ("--context-parallel-size 2 --cp-comm-type a2a", "ulysses", True),
        ("--mtp-num-layers 1", "mtp", 1),
    ],
)
def test_arguments_of_megatron_become_fields(tmp_path: pathlib.Path, extra: str, field: str, value: Any) -> None:
    assert megatron(tmp_path, extra).plan[field] == value


@pytest.mark.parametrize(
    ("extra", "name"),
    [
        ("--moe-expert-capacity-factor 1.0", "moe-expert-capacity-factor"),
        ("--recompute-granularity full --recompute-method block --recompute-num-layers 4", "recompute-method"),
        ("--cp-comm-type allgather --context-parallel-size 2", "cp-comm-type"),
        ("--tp-comm-overlap-cfg x.yaml", "tp-comm-overlap-cfg"),
        ("--no-rope-fusion", "no-rope-fusion"),
        ("--seq-length 4096", "seq-length"),  # twice, differently
        ("--flux-capacitor 1", "flux-capacitor"),
        ("--pipeline-model-parallel-size=3", "pipeline-model-parallel-size"),
    ],
)
def test_what_megatron_has_and_we_do_not_is_refused_by_name(tmp_path: pathlib.Path, extra: str, name: str) -> None:
    with pytest.raises(InputError, match=name):
        megatron(tmp_path, extra)
    if extra.count("--") == 1 and name not in SCRIPT:
        assert megatron(tmp_path, extra, set_aside=[name]).set_aside == (name,)
    with pytest.raises(InputError, match="not in the file"):
        megatron(tmp_path, "", set_aside=["no-such"])


def test_experts_of_megatron(tmp_path: pathlib.Path) -> None:
    more = ("--num-experts 64 --moe-router-topk 6 --moe-ffn-hidden-size 1408 "
                   "--moe-shared-expert-intermediate-size 2816 --moe-layer-freq ([0]*1+[1]*31) "
                   "--expert-model-parallel-size 2 "
                   "--moe-token-dispatcher-type flex --moe-enable-deepep "
                   "--overlap-moe-expert-parallel-comm --moe-router-num-groups 8 "
            "--moe-router-group-topk 4")  # fmt: skip
    job = megatron(tmp_path, more)
    assert job.model is not None
    assert [block.ffn.num_expert for block in job.model.block] == [0, 64]
    assert job.model.layer == (0, *[1] * 31)
    assert (job.model.block[1].ffn.topk, job.model.block[1].ffn.inter) == (6, 2816)
    plan = job.plan
    assert (plan["ep"], plan["etp"], plan["dispatch"], plan["ep_overlap"], plan["node_limit"]) == (2, 8, "deepep", 1, 4)


def test_yaml_of_arguments_is_read_as_they_are(tmp_path: pathlib.Path) -> None:
    pairs = arguments(SCRIPT.replace("EXTRA", ""), "")
    written = "".join(
        f"  --{name}: {str(value).lower() if value is True else value}\n" for name, value in pairs.items()
    )
    (tmp_path / "config.yaml").write_text(f'ENV_VARS:\n  NCCL_ALGO: Ring\nMODEL_ARGS:\n{written}METRICS:\n  - "loss"\n')
    job, other = read(tmp_path / "config.yaml"), megatron(tmp_path)
    assert (job.plan, job.model, job.precision) == (other.plan, other.model, other.precision)


def test_a_toml_of_torchtitan(tmp_path: pathlib.Path) -> None:
    job = titan(tmp_path)
    plan = job.plan
    assert (plan["dp"], plan["zero"], plan["batch"], plan["micro_batch"], plan["seq"]) == (16, 3, 32, 2, 8192)
    assert (job.model_name, job.precision, plan["recompute"]) == ("llama-3.1-8b", "bf16", "full")
    assert job.neutral == ("metrics.log_freq", "optimizer.lr")
    narrow = titan(tmp_path, model={"converters": ["float8"]}, float8={"enable_fsdp_float8_all_gather": True})
    assert (narrow.precision, narrow.plan["gather_byte"]) == ("fp8", 1.0)
    tensor = titan(tmp_path, parallelism={"tensor_parallel_degree": 8, "enable_async_tensor_parallel": True})
    assert (tensor.plan["tp"], tensor.plan["dp"], "tp_overlap" in tensor.plan) == (8, 2, False)  # the stack's
    every = titan(tmp_path, activation_checkpoint={"mode": "selective", "selective_ac_option": "op"})
    assert every.plan["recompute"] == "norm+activation"
    assert ("results of the up projections", "recompute", 0.5) in every.plan["policy"]


@pytest.mark.parametrize(
    ("section", "name"),
    [
        ({"parallelism": {"data_parallel_replicate_degree": 2}}, "data_parallel_replicate_degree"),
        ({"activation_checkpoint": {"mode": "selective", "selective_ac_option": "2"}}, "selective_ac_option"),
        ({"optimizer": {"early_step_in_backward": True}}, "early_step_in_backward"),
        ({"model": {"flavor": "debugmodel"}}, "flavor"),
        ({"training": {"no_such": 1}}, "no_such"),
    ],
)
def test_what_torchtitan_has_and_we_do_not_is_refused_by_name(
    tmp_path: pathlib.Path, section: dict[str, Any], name: str
) -> None:
    with pytest.raises(InputError, match=name):
        titan(tmp_path, **section)


def test_a_json_of_deepspeed(tmp_path: pathlib.Path) -> None:
    job = speed(tmp_path)
    assert (job.plan["dp"], job.plan["batch"], job.plan["micro_batch"], job.plan["zero"]) == (8, 64, 4, 2)
    assert (job.model, job.model_name, job.factor) == (None, "", {})
    offloaded = speed(tmp_path, zero_optimization={"stage": 3, "offload_optimizer": {"device": "cpu"}})
    assert (offloaded.plan["optimizer_offload"], offloaded.plan["host_update"]) == (1.0, True)
    late = speed(tmp_path, zero_optimization={"stage": 1})
    assert late.factor == {"exposed": 1.0}


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"zero_optimization": {"stage": 3, "zero_hpz_partition_size": 8}}, "zero_hpz_partition_size"),
        ({"zero_optimization": {"stage": 3, "offload_optimizer": {"device": "nvme"}}}, "offload_optimizer.device"),
        ({"train_batch_size": 100}, "train_batch_size"),
        ({"optimizer": {"type": "OneBitAdam"}}, "optimizer.type"),
        ({"no_such": True}, "no_such"),
    ],
)
def test_what_deepspeed_has_and_we_do_not_is_refused_by_name(
    tmp_path: pathlib.Path, more: dict[str, Any], name: str
) -> None:
    with pytest.raises(InputError, match=name):
        speed(tmp_path, **more)
