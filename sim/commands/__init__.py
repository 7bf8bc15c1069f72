"""One file a subcommand: `HELP`, `add_arguments(parser)`, `run(arguments) -> exit code`.

Such a file imports nothing heavy at its top: `ridgeline --help` reads all of them.
"""
