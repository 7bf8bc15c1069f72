"""Kinds of live programs, one file each: `HELP`, `OPTIONS` and the generator `program(p, job, option)`.

`p` is a `sim.cluster.live.Program`, `job` a `sim.cluster.program_files.Job` (tokens of a request of the load), `option`
the values of `OPTIONS`. What a real model would decide (when it is certain, which answer wins) is drawn from
`p.random`, which depends on the run's seed and the program's number alone.
"""
