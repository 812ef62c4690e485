"""What a product says of how sure it is: known figures reach its page, whatever else the file holds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_catalogue.evidence_figures import evidence_figures
from beamhub_catalogue.file_report import MAX_FIGURES, MAX_TEXT
from beamhub_reduction.evidence import gather_evidence
from beamhub_reduction.pipeline.execute import Execution
from beamhub_reduction.pipeline.inputs import Inputs
from beamhub_reduction.pipeline.limit import Limit
from beamhub_reduction.pipeline.statistics import Statistics
from beamhub_reduction.pipeline.step import Reduced
from examples import few

DIGEST = "sha256:" + "0" * 64


def evidence(frames: int) -> dict[str, Any]:
    """As a reduction gives it."""
    inputs = Inputs((), 3, 12, 100, 400, DIGEST, "not verifiable", ("a.h5:/d",), ("bitshuffle-LZ4: ours",))
    execution = Execution(
        2, 1.0, None, 0, inputs=inputs, limit=Limit(2e9, 1e9, 4, 2, 0.83), kernels=("avx2",)
    )
    counts = Statistics(n_frames_read=frames, n_frames_corrupt=0, n_pixels_masked=7, n_values_blank=5)
    return gather_evidence(Reduced((), counts, execution, {}, ()))


def test_the_figures_of_a_reduction_are_taken() -> None:
    assert dict(evidence_figures(json.dumps(evidence(12)))) == {
        "frames_read": "12",
        "frames_missing": "0",
        "frames_corrupt": "0",
        "frames_without_flux": "0",
        "pixels_masked": "7",
        "values_blank": "5",
        "files_read": "3",
        "integrity": "not verifiable",
        "kernels": "avx2",
        "read_by": "bitshuffle-LZ4: ours",
        "index_digest": DIGEST,
        "share_of_limit": "0.83",
    }


def test_a_product_of_events_shows_no_frames() -> None:
    names = [name for name, _ in evidence_figures(json.dumps(evidence(0)))]
    assert names[:2] == ["pixels_masked", "values_blank"]


@pytest.mark.parametrize("told", [None, "", "nothing", "[1]", '{"frames": {"read": -1, "missing": true}}'])
def test_what_is_no_evidence_gives_no_figures(told: str | None) -> None:
    assert evidence_figures(told) == ()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["frames", "read", "rung", "kernels", "limit", "share"]), inner)
    ),
    max_leaves=8,
)


@given(told=json_values, more=st.text(max_size=20))
@few(40)
def test_any_evidence_gives_few_short_plain_figures(told: Any, more: str) -> None:
    found = evidence_figures(json.dumps(told)) + evidence_figures(more)
    assert len(found) <= MAX_FIGURES
    assert all(text.isprintable() and 0 < len(text) <= MAX_TEXT for one in found for text in one)
