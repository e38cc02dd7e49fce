"""A program that several processes run to train one network: files and options as arguments."""

import json
import sys
import time
from pathlib import Path

import keras
from helpers import data, make


class Slow(keras.callbacks.Callback):
    """Leaves time to kill a process between two epochs."""

    only_watches = True

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def on_epoch_end(self, epoch, logs=None):
        time.sleep(self.seconds)


def main():
    out, seconds, given = sys.argv[1], float(sys.argv[2]), json.loads(sys.argv[3])
    n, stay = given.pop("n", 50), given.pop("stay", 0)
    X, y = data(n)
    held = {"X_val": X[:13], "y_val": y[:13]}
    kind = make(given.pop("network"), callbacks=[Slow(seconds)] if seconds else None, **given)
    kind.fit(X, y, **held)
    Path(out).with_suffix(".fitted").touch()
    time.sleep(stay)
    kind.save(out)


if __name__ == "__main__":
    main()
