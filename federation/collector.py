"""Python's collector of memory, in a process that answers others for a long time."""

import gc


def spare_what_is_loaded() -> None:
    """Let the collector pass over all that is there now: modules and what they made, for good.

    A coordinator holds two hundred thousand such objects. To look at all of them took it half a
    second, every minute or so, in which it answered nobody (experiments/load). Called once, when
    all is loaded and nothing has begun; what comes later is collected as ever.
    """
    gc.collect()
    gc.freeze()
