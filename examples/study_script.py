"""What the examples of whole studies share: arguments, and the way to tables and one page."""

import argparse

from kmedclf import studies
from kmedclf.utils.text import parse_parameter


def run(name: str, doc: str) -> None:
    """Make the items of a study that were asked for, and print what comes out."""
    study = studies.get(name)
    items = [item.__name__ for item in study.items]
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--data", help="folder of images, .npz, MedMNIST name (else drawn)")
    parser.add_argument("--out", default=f"runs/{name}", help="folder; what it holds is read")
    parser.add_argument("--only", nargs="+", choices=items, metavar="ITEM",
                        help=", ".join(items))  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="small and short, to see it work")
    parser.add_argument("--epochs", type=int, help="of all networks, instead of the study's")
    parser.add_argument("--image-size", type=int, help="side, for folders (default: 224)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--param", nargs="+", default=[], metavar="NAME=VALUE",
                        help="of all networks that have it")  # fmt: skip
    args = parser.parse_args()
    changed = dict(map(parse_parameter, args.param)) | (
        {"epochs": args.epochs} if args.epochs else {}
    )
    lab = study.open(
        args.data, args.out, seed=args.seed, quick=args.quick, size=args.image_size,
        parameters=changed,
    )  # fmt: skip
    print(f"Data: {lab.data.description['name']}, {lab.data.description['n']}")
    chosen = study.only(args.only)
    page = studies.reproduce(chosen, lab, tell=lambda section: print(f"\n{section}", flush=True))
    print(f"\n{page}: all of it; results.csv and results.json beside it")
