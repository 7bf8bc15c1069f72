"""`ridgeline columns`: what does this column mean, and in which unit is it?"""

import argparse

HELP = "list every column and number of the results with unit and meaning"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="a table, a column, or a part of its name")
    parser.add_argument("--json", metavar="FILE", help="write the list")
    parser.add_argument("--markdown", metavar="FILE", help="write the whole list as a page")


def run(arguments: argparse.Namespace) -> int:
    import pathlib

    from kernels.errors import InputError
    from sim.record.export import write_json
    from sim.record.write import write_files
    from sim.show import tables
    from sim.show.column_list import columns, found, markdown

    frame, name = columns(), arguments.name
    if name is not None:
        known, frame = sorted(set(frame["column"])), found(frame, name)
        if frame.empty:
            raise InputError("no such column", field="name", value=name, allowed=known)
    if arguments.json:
        write_json({"rows": frame}, arguments.json)
    if arguments.markdown:
        if name is not None:
            raise InputError("has no effect beside --markdown, which writes all", field="name", value=name)
        write_files({pathlib.Path(arguments.markdown): markdown().encode()})
    print(tables.table(frame))
    return 0
