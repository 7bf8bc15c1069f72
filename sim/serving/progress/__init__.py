"""Progress models, one file each: how many tokens a step proposes for a sequence, and how many of them hold.

A file has `HELP`, `OPTIONS` and three functions (`kernels.engine.progress` is what they may look at):

- `propose(engine) -> repeat`: before each plan of a lane, sets what the next decode of its running sequences verifies;
  returns for how many following steps that stands (`FOREVER`: it never changes);
- `accept(engine, sequence, num_token) -> num_token`: of the drafted tokens that the policy has planned, how many hold;
- `most(value) -> num_token`: in plain Python, from the options: the most that `propose` ever sets.

`prices(machine, value) -> machine`, where a file has it, changes the kernels that its steps run on. `COMPILED = False`
keeps the first two in plain Python.
"""
