"""`ridgeline accuracy`: held-out errors of the shipped calibrations, as docs/accuracy.md has them."""

import argparse

HELP = "errors of the shipped calibrations on shapes that their fits have not seen"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--engines", action="store_true", help="of the engine profiles, on runs or shapes left out")
    parser.add_argument(
        "--training", action="store_true", help="of the training stacks, on rows left out of their fits"
    )
    parser.add_argument("--energy", action="store_true", help="of watts, with models, kernels or machines left out")
    parser.add_argument("--inherited", action="store_true", help="of machines that a relative's calibration prices")
    parser.add_argument("--data", metavar="DIR", help="with --training: fit again on the measured rows of a folder")
    parser.add_argument("--json", metavar="FILE", help="write the table")


def run(arguments: argparse.Namespace) -> int:
    from hw_models import accuracy
    from kernels.errors import InputError
    from sim.record.export import write_json
    from sim.reference import accuracy_rows, engine_accuracy, inherited_accuracy, power_accuracy
    from sim.training import accuracy as training_accuracy

    if arguments.data and not arguments.training:
        raise InputError("has no effect: needs --training", field="data", value=arguments.data)
    if arguments.training + arguments.engines + arguments.energy + arguments.inherited > 1:
        raise InputError("one of --engines, --energy, --inherited and --training", field="training", value=True)
    once: tuple[str, ...] = ()
    if arguments.training:
        frame = training_accuracy.fitted_again(arguments.data) if arguments.data else training_accuracy.stated()
        text, once = training_accuracy.markdown(frame), ("kernel", "n")
    elif arguments.energy:
        frame = power_accuracy.stated()
        text, once = power_accuracy.markdown(frame), ("system",)
        frame = accuracy_rows.of_energy(frame)
    elif arguments.engines:
        frame = engine_accuracy.left_out()
        text, frame = engine_accuracy.markdown(frame), accuracy_rows.of_engines(frame)
    elif arguments.inherited:
        frame = inherited_accuracy.stated()
        text = inherited_accuracy.markdown(frame)
    else:
        frame = accuracy.held_out()
        text = accuracy.markdown(frame)
    if arguments.json:
        write_json({"rows": accuracy_rows.with_totals(frame, once), "reasons": []}, arguments.json)
    print(text)
    return 0
