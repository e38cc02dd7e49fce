"""The search over simple CNNs as one writes it with skorch on PyTorch, for `benchmarks.search`."""

from __future__ import annotations

import argparse
from typing import Any


def search(images: Any, grid: dict[str, list[Any]], args: argparse.Namespace) -> Any:
    """Build the search for images (n, c, h, w)."""
    import skorch
    import torch
    from sklearn.model_selection import GridSearchCV, StratifiedKFold

    _, channels, height, width = images.shape

    class CNN(torch.nn.Module):
        def __init__(self, filters: int = 128, kernel_size: int = 3) -> None:
            super().__init__()
            side = [(size - kernel_size + 1) // 2 for size in (height, width)]
            self.layers = torch.nn.Sequential(
                torch.nn.Conv2d(channels, filters, kernel_size),
                torch.nn.ReLU(),
                torch.nn.MaxPool2d(2),
                torch.nn.Flatten(),
                torch.nn.Linear(filters * side[0] * side[1], args.classes),
            )

        def forward(self, x: Any) -> Any:
            return self.layers(x)

    torch.manual_seed(0)
    estimator = skorch.NeuralNetClassifier(
        CNN,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=0.001,
        max_epochs=args.epochs,
        batch_size=args.batch_size,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )
    grid = {f"module__{name}": values for name, values in grid.items()}
    return GridSearchCV(estimator, grid, cv=StratifiedKFold(3), refit=False)
