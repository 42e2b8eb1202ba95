"""Arrays that a thread uses again for its next image: fresh memory of a few megabytes costs as much as the work done in it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_of_thread = threading.local()


def scratch(purpose: str, shape: tuple[int, ...], dtype: type[np.generic] = np.uint8) -> NDArray[Any]:
    """An array of this thread for `purpose`, with whatever is left in it. Good until the thread asks for the same purpose again."""
    array: NDArray[Any] | None = getattr(_of_thread, purpose, None)
    if array is None or array.shape != shape or array.dtype != dtype:
        array = np.empty(shape, dtype)
        setattr(_of_thread, purpose, array)
    return array
