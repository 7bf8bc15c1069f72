"""`ridgeline study`: published headlines, paper against simulated, one file of `studies/` or of anywhere a study."""

import argparse
from typing import Any

HELP = "paper against simulated: list the studies, run one or all, make the board"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", metavar="WHAT", required=True, parser_class=_with_parameters(parser))
    verbs.add_parser("list", help="name and question of every study", allow_abbrev=False).add_argument(
        "--json", metavar="FILE", help="write the rows"
    )
    run_ = verbs.add_parser(
        "run", help="run a study, by name or by path, or all", allow_abbrev=False, epilog="A NAME has its own options."
    )
    run_.add_argument("study", nargs="?", metavar="NAME|PATH", help="`ridgeline study list` has the names")
    run_.add_argument("--all", action="store_true", help="every study, one after another")
    run_.add_argument("--small", action="store_true", help="the quick pass of each study, at small sizes")
    run_.add_argument("--json", metavar="FILE", help="write the rows")
    run_.add_argument("--plot", metavar="FILE", help="draw them (.svg, .png, .pdf)")
    report = verbs.add_parser("report", help="the board, of rows that `run --json` wrote or anew", allow_abbrev=False)
    report.add_argument("files", nargs="*", metavar="FILE", help="rows (none: every study is run)")
    report.add_argument("--small", action="store_true", help="without files: at small sizes")
    report.add_argument("--json", metavar="FILE", help="write it as rows")
    report.add_argument("--markdown", metavar="FILE", help="write it as Markdown")
    report.add_argument("--html", metavar="FILE", help="write it as a page")


def _with_parameters(parser: argparse.ArgumentParser) -> type[argparse.ArgumentParser]:
    """A parser that, once it has read a study's name, knows the parameters of that study as options."""

    class StudyParser(type(parser)):  # type: ignore[misc]
        def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
            name = self.study_named(list(args or ()))
            if name and self.prog.endswith(" run"):
                from sim.run.study import find, parameters

                group = self.add_argument_group(f"parameters of {name}")
                for key, one in parameters(find(name)).items():
                    shown = ",".join(map(str, one.default)) if isinstance(one.default, tuple) else str(one.default)
                    group.add_argument(
                        f"--{key.rstrip('_').replace('_', '-')}", dest=f"of_study_{key}", metavar="VALUE",
                        help=f"default: {shown}".replace("%", "%%"),
                    )  # fmt: skip
            return super().parse_known_args(args, namespace)

        def study_named(self, words: list[str]) -> str:
            """The first word that is neither an option nor an option's value."""
            skip = False
            for word in words:
                if skip or word.startswith("-"):
                    action = self._option_string_actions.get(word)
                    skip = not skip and action is not None and action.nargs is None
                    continue
                return word
            return ""

    return StudyParser


def run(arguments: argparse.Namespace) -> int:
    return {"list": _list, "run": _run, "report": _report}[arguments.verb](arguments)


def _list(arguments: argparse.Namespace) -> int:
    from sim.run.study import studies
    from sim.show.tables import table

    found = studies()
    if arguments.json:
        from sim.record.export import write_json

        write_json({"rows": found}, arguments.json)
    print(table(found[["name", "question"]]))
    return 0


def _run(arguments: argparse.Namespace) -> int:
    from kernels.errors import InputError
    from sim.record.export import write_json
    from sim.run import study as studies
    from sim.show.board import board, text

    if bool(arguments.study) == arguments.all:
        raise InputError("give the name or path of one study, or --all", field="study", value=arguments.study)
    if arguments.plot:
        if arguments.all:
            raise InputError("a board has no picture", field="plot", value=arguments.plot)
        studies.check_picture(arguments.plot)
    if arguments.all:
        rows = studies.run_all(small=arguments.small, progress=_progress, keep=_keeper(arguments.json))
        if arguments.json:
            write_json({"rows": rows} | _mark(rows), arguments.json)
        print(board(rows))
        return _code(rows)
    module = studies.find(arguments.study)
    given = dict(getattr(module, "SMALL", {})) if arguments.small else {}
    for key, one in studies.parameters(module).items():
        said = getattr(arguments, f"of_study_{key}")
        if said is not None:
            given[key] = studies.convert(said, one)
    _progress(0, 1, arguments.study)
    rows = studies.run_module(module, **given)
    _progress(1, 1, "")
    if arguments.plot:  # first: a study of one's own may fail there
        studies.save_plot(module, rows, arguments.plot)
    if arguments.json:
        write_json({"rows": rows}, arguments.json)
    print(f"{module.CLAIM}\n\n{text(rows)}")
    return 0


def _report(arguments: argparse.Namespace) -> int:
    import pathlib

    from sim.record.export import write_files, write_json
    from sim.run.study import run_all
    from sim.show.board import board, markdown, read
    from sim.show.page.board_page import board_page
    from sim.show.page.page import page_bytes

    if arguments.files:
        rows = read(arguments.files)
    else:
        rows = run_all(small=arguments.small, progress=_progress, keep=_keeper(arguments.json))
    if arguments.files or rows.attrs["complete"]:  # of a run that did not end well no page: its JSON makes one
        pages = {arguments.markdown: markdown, arguments.html: board_page}
        write_files({pathlib.Path(file): page_bytes(page(rows)) for file, page in pages.items() if file})
    if arguments.json:
        write_json({"rows": rows} | _mark(rows), arguments.json)
    print(board(rows))
    return 0 if arguments.files else _code(rows)


def _mark(rows: Any) -> dict[str, Any]:
    """What a file of some studies says beside its rows."""
    failed = rows.attrs.get("failed")
    mark = {} if rows.attrs.get("complete", True) else {"complete": False}
    return mark | ({"failed": failed} if failed else {})


def _keeper(path: str | None) -> Any:
    """Writes what there is after each study, so that a killed run leaves its rows; nothing for standard output."""
    from sim.record.export import write_json

    if not path or path == "-":
        return None
    return lambda rows: write_json({"rows": rows} | _mark(rows), path)


def _code(rows: Any) -> int:
    """0: all of it; 1: a study failed (each is named); 130: stopped."""
    import sys

    failed = rows.attrs.get("failed") or {}
    for name, reason in failed.items():
        print(f"ridgeline: study {name} failed: {reason}", file=sys.stderr)
    return 130 if rows.attrs.get("stopped") else 1 if failed else 0


def _progress(done: int, number: int, name: str) -> None:
    """One line on the terminal, cleared at the end; silent where nobody watches."""
    import sys

    if sys.stderr.isatty():
        words = f"\rstudy {done + 1} of {number}: {name}\033[K" if name else "\r\033[K"
        print(words, end="", file=sys.stderr, flush=True)
