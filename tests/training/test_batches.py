"""Chunks: the same from memory, gathered by the graph that trains, and from disk by tf.data."""

import numpy as np
import pytest
from helpers import data

from kmedclf import augmentation
from kmedclf.inputs.images import Images, Rows
from kmedclf.training import batches

X, y = data(48)
BATCH = 5


def _open(feed, array, sets, mixes, *, copies, n=200):
    index = np.random.default_rng(0).integers(0, len(X), n)  # some come several times
    weight = np.linspace(0.5, 2, len(index)).astype(np.float32)
    copy = np.arange(len(index)) > 90 if copies else None
    rows = Rows(Images(array, 1 / 255), index, y[index].astype(np.int32), weight, copy)
    return feed.open(rows, BATCH, sets, 3, (2, 4), mixes, 3)


@pytest.mark.parametrize("mixes", [{}, {"mixup": 0.3}, {"cutmix": 1.0, "mixup": 0.3}])
@pytest.mark.parametrize(
    ("sets", "copies"), [([], False), (["flip_rotate", "shift"], False), (["dihedral"], True)]
)
def test_chunks_are_the_same_from_memory_and_from_disk(sets, copies, mixes, tmp_path):
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    resolved = augmentation.resolve(sets, "x") if sets else ()
    with batches.Feed.borrow() as one, batches.Feed.borrow() as other:
        gathered = _open(one, X, resolved, mixes, copies=copies)
        streamed = _open(other, mapped, resolved, mixes, copies=copies)
        assert isinstance(gathered, batches.InMemoryBatches)
        assert isinstance(streamed, batches.StreamedBatches)
        labels = []
        for epoch in (2, 3):
            columns, same = (
                [np.concatenate(parts) for parts in zip(*chunks.chunks(epoch), strict=True)]
                for chunks in (gathered, streamed)
            )
            for column, equal in zip(columns, same, strict=True):
                np.testing.assert_array_equal(column, equal)
            labels.append(columns[1])
    assert len(labels[0]) == 200
    assert not np.array_equal(*labels)  # shuffled anew


def test_a_chunk_is_whole_batches_but_for_the_last():
    with batches.Feed.borrow() as feed:
        chunks = _open(feed, X, augmentation.resolve("flips", "x"), {}, copies=False)
        sizes = [len(chunk[0]) for chunk in chunks.chunks(2)]
    assert sizes == [125, 75]


def test_images_of_an_epoch_are_never_gathered_all_at_once():
    with batches.Feed.borrow() as feed:
        chunks = _open(feed, X, (), {}, copies=False, n=1_200)
        assert [len(chunk[0]) for chunk in chunks.chunks(2)] == [510, 510, 180]
