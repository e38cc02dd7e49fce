"""Loops inside graphs: over the batches of an epoch, and over rows to score."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

ONE = {"parallel_iterations": 1}  # steps follow one another


def train(
    step: Callable[..., tuple[Any, Any]],
    stream: Any,
    n_rows: Any,
    batch_size: Any,
    *,
    whole_apart: bool,
) -> tuple[Any, Any]:
    """Take the gradient steps of one epoch.

    Parameters
    ----------
    step : callable
        Maps the number of the step, a batch and whether it is of full size to the sum of its
        losses and its number of hits.
    stream : tf.data iterator
        Of chunks of whole batches; see `kmedclf.passes.make_stream`.
    n_rows : tf.Tensor of shape (), int64
        Rows in the epoch.
    batch_size : tf.Tensor of shape (), int64
        Rows in a batch.
    whole_apart : bool
        Whether smaller batches at the end are a step of their own in the graph, or take the same.

    Returns
    -------
    loss, hits : tf.Tensor of shape ()
        Sums over the epoch.
    """
    zero = tf.constant(0, tf.int64)

    def chunk(seen: Any, number: Any, loss: Any, hits: Any) -> tuple[Any, ...]:
        columns = [tf.identity(column) for column in stream.get_next()]  # on the device
        n = tf.shape(columns[2], tf.int64)[0]

        def take(whole: bool, start: Any, number: Any, loss: Any, hits: Any) -> Any:
            batch = [column[start : start + batch_size] for column in columns]
            more, right = step(number, batch, whole)
            return start + batch_size, number + 1, loss + more, hits + right

        end = n - n % batch_size if whole_apart else n
        state = zero, number, loss, hits
        state = tf.while_loop(lambda at, *_: at < end, lambda *at: take(True, *at), state, **ONE)
        if whole_apart:
            whole = state
            state = tf.cond(end < n, lambda: take(False, *whole), lambda: whole)
        return seen + n, *state[1:]

    state = zero, tf.constant(0), tf.zeros(()), tf.zeros(())
    return tf.while_loop(lambda seen, *_: seen < n_rows, chunk, state, **ONE)[2:]


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
