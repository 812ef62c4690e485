"""Whatever JSON arrives as options, it names things or it is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tornado.web import HTTPError

from beamhub_spawners.session_options import OptionsRefused, read_form, read_options
from beamhub_spawners.session_spawner import apply_user_options

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)
KEYS = ("datasets", "profile", "environment", "template")


@given(options=anything)
def test_any_json_is_a_request_or_a_refusal(options: Any) -> None:
    try:
        request = read_options(options)
    except OptionsRefused as refused:
        assert refused.problems
        return
    assert options is None or set(options) <= set(KEYS)
    assert all(isinstance(name, str) for name in request.datasets)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"mounts": [{"source": "/etc"}]}, "mounts: unknown key"),
        ({"uid": 0}, "uid: unknown key"),
        ({"image": "evil"}, "image: unknown key"),
        ({"profile": "../../etc"}, "profile: String should match"),
        ({"template": "/etc/passwd"}, "template: String should match"),
        ({"environment": 5}, "environment: Input should be a valid string"),
        ({"datasets": "one"}, "datasets: Input should be a valid"),
        ({"datasets": ["a", "a"]}, "a dataset is named twice"),
        ({"datasets": ["x\ny"]}, "datasets.0: String should match"),
        ({"datasets": [str(i) for i in range(65)]}, "at most 64"),
        ({"datasets": ["x" * 20_000]}, "more than 16000"),
        ([], "a list, not a mapping"),
        ({"datasets": [{"pid": "x"}]}, "datasets.0"),
    ],
)
def test_forged_options_are_refused_with_the_key(options: Any, problem: str) -> None:
    with pytest.raises(OptionsRefused) as caught:
        read_options(options)
    assert problem in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_form_gives_the_same_request_as_the_api() -> None:
    form = {"datasets": ["demo:MA-5101:s"], "profile": ["small"], "template": [""], "_xsrf": ["x"]}
    assert read_options(read_form(form)) == read_options({"datasets": ["demo:MA-5101:s"], "profile": "small"})
    with pytest.raises(OptionsRefused, match="uid"):
        read_options(read_form({"uid": ["0"]}))


class Recorder:
    """A spawner's two attributes that the hook touches."""

    request = None
    is_forgotten = False

    def forget_options(self) -> None:
        self.is_forgotten = True


def test_refused_options_are_a_400_that_says_why_and_are_forgotten() -> None:
    spawner = Recorder()
    with pytest.raises(HTTPError, match="uid: unknown key") as caught:
        apply_user_options(spawner, {"uid": 0})
    assert caught.value.status_code == 400
    assert spawner.is_forgotten
    assert spawner.request is None
