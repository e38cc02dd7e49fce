"""What the four assignment items share: arguments, and how an answer is shown."""

import argparse

from kmedclf.studies import Lab, Section, blood


def laboratory(doc: str) -> Lab:
    """Read the command line: which data, where to write, and whether to hurry."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument(
        "--data", default="bloodmnist", help="MedMNIST name, .npz file or 'synthetic'"
    )
    parser.add_argument("--out", default="runs/assignment", help="folder")
    parser.add_argument("--quick", action="store_true", help="small and short, to see it work")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    names = blood.STUDY.class_names
    return Lab.open(
        args.data, args.out, seed=args.seed, quick=args.quick, verbose=1, class_names=names
    )


def show(section: Section, lab: Lab) -> None:
    """Print method and findings, and write the figures."""
    print(f"\n{section}")
    for figure, path in zip(section.figures, section.save_figures(lab.out), strict=True):
        print(f"{path}: {figure.words}")
    for words, address in section.pages.items():
        print(f"{lab.out / address}: {words}")
