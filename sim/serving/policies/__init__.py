"""Scheduling policies, one file each: `HELP`, `OPTIONS` and `plan(replica) -> repeat`.

`plan` is called when a lane may begin a step. It fills the lane's plan with the verbs of
`kernels.serving.verbs` and returns for how many following steps the plan stands by itself (see
`kernels.serving.layout.PLAN_SIGNATURE`). Constants that a file may set: `WHOLE_PROMPT` (prompts are never cut),
`HOLD` (a batch ends together), `WATERMARK` (share of blocks that an admission leaves free; 0.01),
`COMPILED = False` (plain Python). An option called `reserve` turns paged KV into contiguous reservations.
"""
