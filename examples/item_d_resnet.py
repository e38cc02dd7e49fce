"""Item (d): a deeper network, and all three compared.

Architecture: zero padding of one pixel; 64 kernels of 3 pixels, batch normalisation, ReLU; two
residual blocks of three 3 × 3 convolutions, each halving the image and doubling the kernels, with a
1 × 1 convolution as shortcut; global average pooling; 256 ReLU neurons; softmax. Trained as the
others. The MLP and the CNN of items (a) and (c) are read from the folder, or trained here.
"""

import json

from assignment import arguments, train_and_show

from kmedclf import CNNClassifier, MLPClassifier, ResNetClassifier, datasets, evaluation
from kmedclf.evaluation import Report

NETWORKS = {"mlp": MLPClassifier, "cnn": CNNClassifier, "resnet": ResNetClassifier}
QUICK = {"mlp": {"units": 16}, "cnn": {"filters": 8}, "resnet": {"stem_filters": 4}}


def main() -> None:
    """Train what is not there yet, then compare."""
    args = arguments(__doc__)
    reports, seconds, sizes = {}, {}, {}
    for name, network in NETWORKS.items():
        folder = args.out / name
        if name == "resnet" or not (folder / "evaluation-test.json").exists():
            small = {"epochs": 3, **QUICK[name]} if args.quick else {}
            train_and_show(network(random_state=args.seed, verbose=1, **small), name, args)
        reports[name] = Report.from_json(folder / "evaluation-test.json")
        environment = json.loads((folder / "environment.json").read_text())
        seconds[name], sizes[name] = environment["seconds"], environment["n_params"]
    dataset = args.data.description["name"]
    comparison = evaluation.compare(
        reports,
        parameters=sizes,
        seconds=seconds,
        dataset=dataset if dataset in datasets.names() else None,
        protocol="28 px, official splits" if dataset in datasets.names() else "test split",
    )
    print(comparison.to_markdown())
    evaluation.write_comparison_page(args.out / "comparison.html", comparison)
    print(f"The comparison with the published results is {args.out / 'comparison.html'}")


if __name__ == "__main__":
    main()
