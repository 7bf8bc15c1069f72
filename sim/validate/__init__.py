"""Simulated against measured or published: a file a verb of `ridgeline validate`, found by listing this folder.

A verb has HELP, `add_arguments(parser)` and `run(arguments)`; what it prints and writes has the shape of `sim.rows`.
"""
