"""Scheduling policies, one file each: `HELP`, `OPTIONS` and `plan(engine) -> repeat`.

`plan` is called when a lane may begin a step. It fills the lane's plan with the verbs of
`kernels.engine.verbs` and returns for how many following steps the plan stands by itself (see
`kernels.engine.types.PLAN_SIGNATURE`). Constants that a file may set: `WHOLE_PROMPT` (prompts are never cut),
`HOLD` (a batch ends together), `FINDS_STATE` (every chunk is what `aligned_token` leaves of it, so that states of
recurrent layers lie where others find them; without it a state is its sequence's alone), `WATERMARK` (share of blocks
that an admission leaves free; 0.01), `COMPILED = False` (plain Python). An option called `reserve` turns paged KV into
contiguous reservations.
"""
