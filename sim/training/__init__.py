"""Training: a model, a plan and a system to step time, memory and cost; search over plans."""
