"""Every kernel gives the same bytes on every path that this machine can run, and on NumPy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_reduction import kernels


@given(data=st.binary(max_size=600), item_bytes=st.sampled_from([1, 2, 3, 4, 8]))
def test_unshuffle_is_the_same_on_every_path(data: bytes, item_bytes: int) -> None:
    array = np.frombuffer(data, dtype=np.uint8)
    n_items = len(data) // item_bytes
    expected = bytes(data[k * n_items + i] for i in range(n_items) for k in range(item_bytes))
    expected += data[n_items * item_bytes :]
    for path in kernels.available_paths():
        with kernels.using_path(path):
            assert kernels.unshuffle(array, item_bytes=item_bytes).tobytes() == expected


def test_numpy_is_always_there_and_an_unknown_path_is_refused() -> None:
    assert kernels.available_paths()[-1] == "numpy"
    assert kernels.active_path() == kernels.available_paths()[0]
    with pytest.raises(ValueError, match="sse9"), kernels.using_path("sse9"):
        pass
