"""Arguments of Megatron-LM that change neither the time of a step nor its memory: what is learned, read, written and
logged, and what is built as it is here anyway."""

NEUTRAL = frozenset((
    # what is learned and how
    "lr lr-decay-style lr-decay-iters lr-decay-samples lr-warmup-iters lr-warmup-samples lr-warmup-fraction "
    "lr-warmup-init lr-wsd-decay-style lr-wsd-decay-iters lr-wsd-decay-samples min-lr decoupled-lr decoupled-min-lr "
    "override-opt-param-scheduler use-checkpoint-opt-param-scheduler weight-decay start-weight-decay end-weight-decay "
    "weight-decay-incr-style clip-grad adam-beta1 adam-beta2 adam-eps sgd-momentum lion-beta1 lion-beta2 "
    "muon-momentum muon-nesterov muon-extra-scale-factor muon-scale-mode muon-coefficient-type muon-scalar-optimizer "
    "seed data-parallel-random-init init-method-std init-method-xavier-uniform embedding-init-method-std "
    "perform-initialization use-cpu-initialization init-model-with-meta-device use-mup loss-scale "
    "initial-loss-scale min-loss-scale loss-scale-window hysteresis check-for-nan-in-loss-and-grad "
    "no-check-for-nan-in-loss-and-grad check-for-spiky-loss check-for-large-grads calculate-per-token-loss "
    "train-iters train-samples exit-interval exit-duration-in-mins exit-signal-handler eval-iters eval-interval "
    "skip-train full-validation rotary-base rotary-interleaved rotary-scaling-factor rotary-seq-len-interpolation-factor "
    "use-rope-scaling rope-scaling-factor rope-type mscale mscale-all-dim norm-epsilon layernorm-epsilon "
    "apply-layernorm-1p layernorm-zero-centered-gamma moe-aux-loss-coeff moe-z-loss-coeff moe-input-jitter-eps "
    "moe-router-load-balancing-type moe-router-pre-softmax moe-router-topk-scaling-factor moe-router-score-function "
    "moe-router-enable-expert-bias moe-router-bias-update-rate moe-router-dtype moe-router-force-load-balancing "
    "moe-token-drop-policy mtp-loss-scaling-factor apply-query-key-layer-scaling attention-softmax-in-fp32 "
    "no-query-key-layer-scaling fp8-amax-history-len fp8-amax-compute-algo fp8-margin fp8-interval "
    "softmax-scale "
    # what is read, written and logged
    "data-path train-data-path valid-data-path test-data-path data-args-path per-split-data-args-path data-cache-path "
    "mock-data split vocab-file merge-file vocab-extra-ids tokenizer-type tokenizer-model tiktoken-pattern "
    "tiktoken-num-special-tokens tiktoken-special-tokens num-workers num-dataset-builder-threads dataloader-type "
    "reset-position-ids reset-attention-mask eod-mask-loss no-create-attention-mask-in-dataloader "
    "create-attention-mask-in-dataloader no-mmap-bin-files retriever-report-topk-accuracies trust-remote-code "
    "save load save-interval no-save-optim no-save-rng no-load-optim no-load-rng finetune ckpt-format ckpt-step "
    "dist-ckpt-format dist-ckpt-strictness dist-ckpt-workers use-dist-ckpt async-save ckpt-fully-parallel-save "
    "ckpt-fully-parallel-load ckpt-assume-constant-structure auto-detect-ckpt-format exit-on-missing-checkpoint "
    "non-persistent-save-interval save-retain-interval use-checkpoint-args pretrained-checkpoint "
    "tensorboard-dir tensorboard-log-interval tensorboard-queue-size profile profile-step-start profile-step-end "
    "profile-ranks use-pytorch-profiler record-memory-history memory-snapshot-path timing-log-level timing-log-option "
    "barrier-with-L1-time no-barrier-with-level-1-timing distributed-backend distributed-timeout-minutes local-rank "
    "lazy-mpu-init node-rank master-addr master-port rdzv-endpoint rdzv-backend rdzv-id rdzv-conf "
    "max-restarts tee redirects role start-method use-mcore-models use-legacy-models "
    "manual-gc manual-gc-interval te-rng-tracker use-te-rng-tracker "
    "inference-rng-tracker enable-experimental onnx-safe "
    # what is done here anyway
    "bias-gelu-fusion bias-swiglu-fusion bias-dropout-fusion masked-softmax-fusion apply-rope-fusion "
    "moe-grouped-gemm moe-permute-fusion moe-router-fusion use-fused-weighted-squared-relu "
    "ddp-average-in-collective ddp-bucket-size ddp-num-buckets ddp-pad-buckets-for-high-nccl-busbw "
    "align-param-gather use-ring-exchange-p2p tp-comm-bootstrap-backend"
).split())  # fmt: skip
PREFIXES = ("log-", "wandb-", "one-logger", "no-one-logger", "logging-", "tensorboard-", "rerun-", "error-injection",
            "ft-", "straggler", "otel-", "inprocess-", "app-tag", "adlr-", "fim-", "result-rejected",
            "eval-micro")  # fmt: skip
REFUSED = (  # known by name, with an effect that nothing here has
    "fp32-residual-connection", "distribute-saved-activations", "defer-embedding-wgrad-compute", "delay-wgrad-compute",
    "microbatch-group-size-per-virtual-pipeline-stage", "microbatch-group-size-per-vp-stage", "no-persist-layer-norm",
    "no-bias-gelu-fusion", "no-bias-swiglu-fusion", "no-bias-dropout-fusion", "no-rope-fusion", "deterministic-mode",
    "moe-expert-capacity-factor", "moe-pad-expert-input-to-capacity", "moe-shared-expert-overlap",
    "moe-layer-recompute", "fine-grained-activation-offloading", "enable-cuda-graph", "external-cuda-graph",
    "sft", "vision-pretraining", "experimental-attention-variant", "linear-attention-freq", "hybrid-layer-pattern",
    "enable-mhc-connections", "hybrid-context-parallel", "hierarchical-context-parallel-sizes", "first-last-layers-bf16",
    "rampup-batch-size", "empty-unused-memory-level",
)  # fmt: skip
