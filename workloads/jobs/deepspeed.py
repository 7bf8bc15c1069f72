"""A job of DeepSpeed by its JSON: batch, ZeRO stage, formats, offloading, activation checkpointing. Shapes of the
model, sequence and groups are the program's own, which the user gives beside it."""

from typing import Any

from workloads.jobs.job import Given, Job

AUTO = "auto"
_NAMES = """
activation_checkpointing.contiguous_memory_optimization activation_checkpointing.number_checkpoints
activation_checkpointing.profile activation_checkpointing.synchronize_checkpoint_boundary bf16.immediate_grad_update
disable_allgather dump_state gradient_clipping gradient_predivide_factor memory_breakdown optimizer.params.adam_w_mode
optimizer.params.betas optimizer.params.eps optimizer.params.lr optimizer.params.torch_adam
optimizer.params.weight_decay prescale_gradients seed sparse_gradients steps_per_print wall_clock_breakdown
zero_allow_untested_optimizer zero_force_ds_cpu_optimizer zero_optimization.allgather_bucket_size
zero_optimization.allgather_partitions zero_optimization.contiguous_gradients zero_optimization.elastic_checkpoint
zero_optimization.ignore_unused_parameters zero_optimization.load_from_fp32_weights
zero_optimization.offload_optimizer.buffer_count zero_optimization.offload_optimizer.fast_init
zero_optimization.offload_optimizer.pin_memory zero_optimization.offload_param.buffer_count
zero_optimization.offload_param.buffer_size zero_optimization.offload_param.max_in_cpu
zero_optimization.offload_param.pin_memory zero_optimization.reduce_bucket_size zero_optimization.reduce_scatter
zero_optimization.round_robin_gradients zero_optimization.stage3_gather_16bit_weights_on_model_save
zero_optimization.stage3_gather_fp16_weights_on_model_save zero_optimization.stage3_max_live_parameters
zero_optimization.stage3_max_reuse_distance zero_optimization.stage3_param_persistence_threshold
zero_optimization.stage3_prefetch_bucket_size zero_optimization.sub_group_size
"""
NEUTRAL = frozenset(_NAMES.split())
PREFIXES = ("scheduler.", "fp16.", "tensorboard.", "wandb.", "csv_monitor.", "comet.", "flops_profiler.",
            "comms_logger.", "checkpoint.", "monitor_config.", "aio.", "elasticity.", "autotuning.")  # fmt: skip
REFUSED = (
    "zero_optimization.zero_quantized_weights", "zero_optimization.zero_quantized_gradients",
    "zero_optimization.zero_hpz_partition_size", "zero_optimization.mics_shard_size", "compression_training",
    "sparse_attention", "curriculum_learning.enabled", "data_efficiency.enabled", "progressive_layer_drop.enabled",
    "eigenvalue.enabled", "fp16.fp16_master_weights_and_grads", "communication_data_type",
    "activation_checkpointing.partition_activations",
    "zero_optimization.offload_optimizer.pipeline", "zero_optimization.offload_optimizer.pipeline_read",
    "zero_optimization.offload_optimizer.pipeline_write", "pipeline.activation_checkpoint_interval",
)  # fmt: skip
OPTIMIZERS = {"adam": "adam", "adamw": "adam", "fusedadam": "adam", "deepspeedcpuadam": "adam", "lion": "lion",
              "sgd": "sgd", "muon": "muon"}  # fmt: skip
DEVICES = {"none": 0.0, "cpu": 1.0}


def read(given: Given, num_device: int) -> Job:
    """The job on `num_device` devices. Values that are "auto" are the program's: they are left to the user."""
    given.refuse_any(REFUSED)
    for name in [name for name, value in given.values.items() if value == AUTO]:
        given.left.discard(name)
        del given.values[name]
    plan: dict[str, Any] = {"tp": given.whole("tensor_parallel.autotp_size", 1, "tp")}
    if not num_device or num_device % plan["tp"]:
        given.refuse("train_batch_size", "on how many devices? Give --gpus")
    plan["dp"] = num_device // plan["tp"]
    micro = given.whole("train_micro_batch_size_per_gpu", 0, "micro_batch")
    steps = given.whole("gradient_accumulation_steps", 0, "batch")
    whole = given.whole("train_batch_size", 0, "batch")
    if not micro and not (whole and steps):
        given.refuse("train_micro_batch_size_per_gpu", "two of the three sizes of a batch are needed")
    micro = micro or whole // (steps * plan["dp"])
    whole = whole or micro * max(steps, 1) * plan["dp"]
    plan["micro_batch"], plan["batch"] = micro, whole
    if steps and micro * steps * plan["dp"] != whole:
        given.refuse("train_batch_size", f"is not {micro} x {steps} x {plan['dp']}")
    plan["zero"] = given.whole("zero_optimization.stage", 0, "zero") if plan["dp"] > 1 else 0
    given.take("zero_optimization.stage", meaning="zero")
    given.flag("zero_optimization.overlap_comm", "exposed")
    precision = "fp32"
    for name in ("bf16", "fp16"):
        if given.flag(f"{name}.enabled", "format"):
            precision = name
    given.flag("bfloat16.enabled", "format")
    if precision == "fp32":
        plan["weight_byte"] = plan["act_byte"] = 4.0
    wide = given.choice("data_types.grad_accum_dtype", "fp32" if precision == "bf16" else "fp16",
                        {"fp32": 4.0, "fp16": 2.0, "bf16": 2.0}, "grad_byte")  # fmt: skip
    plan["grad_byte"] = 4.0 if precision == "fp32" else wide
    plan["optimizer"] = given.choice("optimizer.type", "AdamW", {
        name: OPTIMIZERS[name.lower()]
        for name in ("Adam", "AdamW", "FusedAdam", "DeepSpeedCPUAdam", "Lion", "SGD", "Muon", "adam", "adamw")
    }, "optimizer")  # fmt: skip
    away = given.choice("zero_optimization.offload_optimizer.device", "none", DEVICES, "optimizer_offload")
    if away or given.flag("zero_optimization.cpu_offload", "optimizer_offload"):
        plan["optimizer_offload"] = given.number("zero_optimization.offload_optimizer.ratio", 1.0, "optimizer_offload")
        plan["host_update"] = True
    plan["weight_offload"] = given.choice("zero_optimization.offload_param.device", "none", DEVICES, "weight_offload")
    plan["act_offload"] = 1.0 if given.flag("activation_checkpointing.cpu_checkpointing", "act_offload") else 0.0
    plan["ulysses"] = False
    factor = {} if given.values.get("zero_optimization.overlap_comm", plan["zero"] == 3) else {"exposed": 1.0}
    neutral = given.finish(NEUTRAL, PREFIXES)
    return Job(
        "DeepSpeed", plan, None, "", precision, num_device, factor, tuple(given.understood), neutral, given.set_aside
    )
