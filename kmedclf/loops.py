"""Loops inside graphs: over the batches of an epoch, and over rows to score."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

ONE = {"parallel_iterations": 1}  # steps follow one another


def train(
    step: Callable[..., tuple[Any, Any]],
    read: Callable[[Any], tuple[Any, ...]],
    n_rows: Any,
    batch_size: Any,
    *,
    ahead: tuple[tf.TensorSpec, ...],
    whole_apart: bool,
) -> tuple[Any, Any]:
    """Take the gradient steps of one epoch.

    Parameters
    ----------
    step : callable
        Maps the number of the step, a batch and whether it is of full size to the sum of its
        losses and its number of hits.
    read : callable
        Maps the number of a chunk of whole batches to its images, labels and weights.
    n_rows : tf.Tensor of shape (), int64
        Rows in the epoch.
    batch_size : tf.Tensor of shape (), int64
        Rows in a batch.
    ahead : tuple of tf.TensorSpec
        What a chunk is like, where one is to be read while the steps of the one before it are
        taken; else empty. The graph does both at a time if reading changes no state.
    whole_apart : bool
        Whether smaller batches at the end are a step of their own in the graph, or take the same.

    Returns
    -------
    loss, hits : tf.Tensor of shape ()
        Sums over the epoch.
    """
    zero = tf.constant(0, tf.int64)

    def steps(columns: tuple[Any, ...], n: Any, *state: Any) -> tuple[Any, ...]:
        def take(whole: bool, start: Any, number: Any, loss: Any, hits: Any) -> Any:
            batch = [column[start : start + batch_size] for column in columns]
            more, right = step(number, batch, whole)
            return start + batch_size, number + 1, loss + more, hits + right

        end = n - n % batch_size if whole_apart else n
        done = zero, *state
        done = tf.while_loop(lambda at, *_: at < end, lambda *at: take(True, *at), done, **ONE)
        if whole_apart:
            whole = done
            done = tf.cond(end < n, lambda: take(False, *whole), lambda: whole)
        return done[1:]

    def chunk(place: Any, seen: Any, number: Any, loss: Any, hits: Any, *held: Any) -> Any:
        columns = held or read(place)
        n = tf.shape(columns[2], tf.int64)[0]
        following: tuple[Any, ...] = ()
        if ahead:
            nothing = tuple(column[:0] for column in columns)
            following = tf.cond(seen + n < n_rows, lambda: read(place), lambda: nothing)
        return place + 1, seen + n, *steps(columns, n, number, loss, hits), *following

    # Nothing is held at first, so that reading has one place in the graph: TensorFlow optimises
    # the graph of every network anew.
    held = [tf.zeros([0, *column.shape[1:]], column.dtype) for column in ahead]
    any_rows = [tf.TensorShape([None, *column.shape[1:]]) for column in ahead]
    done = tf.while_loop(
        lambda _, seen, *rest: seen < n_rows,
        chunk,
        (tf.constant(0), zero, tf.constant(0), tf.zeros(()), tf.zeros(()), *held),
        shape_invariants=(*[tf.TensorShape([])] * 5, *any_rows),
        **ONE,
    )
    return done[3:5]


def score(
    network: Callable[[Any], Any], read: Callable[[Any], Any], n_rows: Any, batch_size: Any
) -> Any:
    """Apply a network to rows, some at a time.

    Parameters
    ----------
    network : callable
        Maps images (b, h, w, c) to outputs (b, k), float32.
    read : callable
        Maps the number of the first row of a batch to its images.
    n_rows, batch_size : tf.Tensor of shape (), int64
        Rows in all, and at a time.

    Returns
    -------
    tf.Tensor of shape (n_rows, k), float32
        The outputs.
    """
    steps = (n_rows + batch_size - 1) // batch_size

    def body(number: Any, outputs: Any) -> tuple[Any, Any]:
        output = network(read(number * batch_size))
        return number + 1, outputs.write(tf.cast(number, tf.int32), output)

    outputs = tf.TensorArray(tf.float32, tf.cast(steps, tf.int32), infer_shape=False)
    state = tf.constant(0, tf.int64), outputs
    return tf.while_loop(lambda at, _: at < steps, body, state, **ONE)[1].concat()
