"""`python -m benchmarks`: measure training, inference and monitor beside their peers; `--record` keeps it."""

from __future__ import annotations

import argparse

from benchmarks import infer_speed, monitor_refresh, train_speed
from benchmarks.contest import OURS, Contest
from benchmarks.material import load_material
from benchmarks.record import describe_machine, record


def main() -> None:
    """Run the benchmarks that were asked for and print what they gave."""
    parser = _parser()
    arguments = parser.parse_args()
    options = {
        "data": {"patch_size": arguments.patch_size, "patches_per_image": 100},
        "model": {"features": arguments.features, "layers": arguments.layers},
        "training": {"batch_size": arguments.batch_size},
        "hardware": {"device": arguments.device, "precision": arguments.precision},
    }
    print(describe_machine(), flush=True)
    material = load_material()
    contests = {
        "train": train_speed.compare,
        "infer": infer_speed.compare,
        "plane": infer_speed.compare_plane,
        "monitor": monitor_refresh.compare,
    }
    for name, compare in contests.items():
        if arguments.only in (None, name):
            contest = compare(material, options, rounds=arguments.rounds, seconds=arguments.seconds)
            _show(contest)
            if arguments.record:
                record(contest, _command(arguments, parser, name))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only", choices=("train", "infer", "plane", "monitor"), help="measure only one of them"
    )
    parser.add_argument("--patch-size", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--features", type=int, default=32)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    parser.add_argument("--precision", choices=("auto", "bf16", "fp16", "fp32"), default="auto")
    parser.add_argument("--rounds", type=int, default=5, help="every contestant's turns")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of a turn")
    parser.add_argument("--record", action="store_true", help="add the results to benchmarks/README.md")
    return parser


def _show(contest: Contest) -> None:
    print(f"\n{contest.title}: {contest.setting}")
    for name, rates in contest.rates.items():
        rounds = " ".join(f"{rate:.3g}" for rate in rates)
        compared = "" if name == OURS else f"   ours is {contest.ratio(name):.2f} times as fast"
        print(f"  {name:22} {contest.rate(name):8.3g} {contest.unit}   ({rounds}){compared}", flush=True)
    if contest.facts:
        print(f"  {contest.facts}", flush=True)


def _command(arguments: argparse.Namespace, parser: argparse.ArgumentParser, name: str) -> str:
    flags = [
        f"--{key.replace('_', '-')} {value}"
        for key, value in vars(arguments).items()
        if key not in ("only", "record") and value != parser.get_default(key)
    ]
    return " ".join(["python -m benchmarks --only", name, *flags])


if __name__ == "__main__":
    main()
