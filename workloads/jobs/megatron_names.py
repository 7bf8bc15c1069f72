"""Arguments of Megatron-LM that change neither the time of a step nor its memory: what is learned, read, written and
logged, and what is built as it is here anyway."""

_NAMES = """
adam-beta1 adam-beta2 adam-eps align-param-gather apply-layernorm-1p apply-query-key-layer-scaling apply-rope-fusion
async-save attention-softmax-in-fp32 auto-detect-ckpt-format barrier-with-L1-time bias-dropout-fusion bias-gelu-fusion
bias-swiglu-fusion calculate-per-token-loss check-for-large-grads check-for-nan-in-loss-and-grad check-for-spiky-loss
ckpt-assume-constant-structure ckpt-format ckpt-fully-parallel-load ckpt-fully-parallel-save ckpt-step clip-grad
create-attention-mask-in-dataloader data-args-path data-cache-path data-parallel-random-init data-path dataloader-type
ddp-average-in-collective ddp-bucket-size ddp-num-buckets ddp-pad-buckets-for-high-nccl-busbw decoupled-lr
decoupled-min-lr dist-ckpt-format dist-ckpt-strictness dist-ckpt-workers distributed-backend
distributed-timeout-minutes embedding-init-method-std enable-experimental end-weight-decay eod-mask-loss eval-interval
eval-iters exit-duration-in-mins exit-interval exit-on-missing-checkpoint exit-signal-handler finetune
fp8-amax-compute-algo fp8-amax-history-len fp8-interval fp8-margin full-validation hysteresis inference-rng-tracker
init-method-std init-method-xavier-uniform init-model-with-meta-device initial-loss-scale layernorm-epsilon
layernorm-zero-centered-gamma lazy-mpu-init lion-beta1 lion-beta2 load local-rank loss-scale loss-scale-window lr
lr-decay-iters lr-decay-samples lr-decay-style lr-warmup-fraction lr-warmup-init lr-warmup-iters lr-warmup-samples
lr-wsd-decay-iters lr-wsd-decay-samples lr-wsd-decay-style manual-gc manual-gc-interval masked-softmax-fusion
master-addr master-port max-restarts memory-snapshot-path merge-file min-loss-scale min-lr mock-data
moe-aux-loss-coeff moe-grouped-gemm moe-input-jitter-eps moe-permute-fusion moe-router-bias-update-rate
moe-router-dtype moe-router-enable-expert-bias moe-router-force-load-balancing moe-router-fusion
moe-router-load-balancing-type moe-router-pre-softmax moe-router-score-function moe-router-topk-scaling-factor
moe-token-drop-policy moe-z-loss-coeff mscale mscale-all-dim mtp-loss-scaling-factor muon-coefficient-type
muon-extra-scale-factor muon-momentum muon-nesterov muon-scalar-optimizer muon-scale-mode
no-barrier-with-level-1-timing no-check-for-nan-in-loss-and-grad no-create-attention-mask-in-dataloader no-load-optim
no-load-rng no-mmap-bin-files no-query-key-layer-scaling no-save-optim no-save-rng node-rank
non-persistent-save-interval norm-epsilon num-dataset-builder-threads num-workers onnx-safe
override-opt-param-scheduler per-split-data-args-path perform-initialization pretrained-checkpoint profile
profile-ranks profile-step-end profile-step-start rdzv-backend rdzv-conf rdzv-endpoint rdzv-id record-memory-history
redirects reset-attention-mask reset-position-ids retriever-report-topk-accuracies role rope-scaling-factor rope-type
rotary-base rotary-interleaved rotary-scaling-factor rotary-seq-len-interpolation-factor save save-interval
save-retain-interval seed sgd-momentum skip-train softmax-scale split start-method start-weight-decay te-rng-tracker
tee tensorboard-dir tensorboard-log-interval tensorboard-queue-size test-data-path tiktoken-num-special-tokens
tiktoken-pattern tiktoken-special-tokens timing-log-level timing-log-option tokenizer-model tokenizer-type
tp-comm-bootstrap-backend train-data-path train-iters train-samples trust-remote-code use-checkpoint-args
use-checkpoint-opt-param-scheduler use-cpu-initialization use-dist-ckpt use-fused-weighted-squared-relu
use-legacy-models use-mcore-models use-mup use-pytorch-profiler use-ring-exchange-p2p use-rope-scaling
use-te-rng-tracker valid-data-path vocab-extra-ids vocab-file weight-decay weight-decay-incr-style
"""
NEUTRAL = frozenset(_NAMES.split())
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
    "enable-mhc-connections", "hybrid-context-parallel", "hierarchical-context-parallel-sizes",
    "first-last-layers-bf16",
    "rampup-batch-size", "empty-unused-memory-level",
)  # fmt: skip
