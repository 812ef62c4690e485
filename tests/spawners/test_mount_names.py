"""Names of folders: mounted exactly as they are, or refused by name."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from beamhub_core.rights import PoolPath, Refused
from beamhub_core.session import Mount
from beamhub_spawners.mount_limits import check_mounts
from beamhub_spawners.mount_names import MAX_COMPONENT_BYTES, MAX_PATH_BYTES, unmountable

awkward = st.sampled_from(list(":,{}\n\r\t\x1b\x7f\x85 \\'\"$%|=~#;&*?<>é\u0301ß中\u200b\u2028😀.-a"))
names = st.text(st.one_of(awkward, st.characters()), min_size=1, max_size=300)


@given(name=names)
def test_a_name_is_refused_only_for_what_the_kernel_or_a_log_cannot_take(name: str) -> None:
    path = "/data/" + name.replace("/", "x")
    is_text = all(unicodedata.category(letter) not in ("Cc", "Cs") for letter in path)
    fits = is_text and all(len(part.encode()) <= MAX_COMPONENT_BYTES for part in path.split("/"))
    assert (unmountable(path) is None) == fits


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a\nb", "a line break"),
        ("a\x1b[2Jb", "control character 0x1b"),
        ("x" * 256, "256 bytes, more than 255"),
        ("é" * 128, "256 bytes, more than 255"),
        ("/".join(["x" * 200] * 21), f"more than {MAX_PATH_BYTES}"),
        ("\udc80", "not UTF-8"),
    ],
)
def test_the_reason_is_named(name: str, words: str) -> None:
    assert words in (unmountable(name) or "")


@pytest.mark.parametrize(
    "name", ["a:b", "a,b", "{x.y}", " a ", "a ", "é" * 127, "中\u200b", "x" * 255, "a\\b"]
)
def test_other_names_pass(name: str) -> None:
    assert unmountable(f"/data/{name}") is None


def test_a_path_of_300_characters_passes() -> None:
    assert unmountable("/data/" + "/".join(["x" * 59] * 5)) is None


def mount(path: str, **changes: str) -> Mount:
    fields = {"pool": "p", "path": path, "source": f"/p/{path}", "target": f"/p/{path}", "mode": "ro"}
    return Mount.model_validate({**fields, "purpose": "raw", **changes})


def test_a_folder_that_cannot_be_mounted_is_refused_with_its_name_escaped() -> None:
    with pytest.raises(Refused, match=r"The folder 'P1/a\\tb' of demo:1 cannot be mounted") as caught:
        check_mounts((mount("P1/a\tb", pid="demo:1"),))
    assert caught.value.refusal.code == "bad_request"
    assert "\t" not in caught.value.refusal.reason


def test_a_line_break_never_enters_a_path() -> None:
    with pytest.raises(ValidationError):
        PoolPath(pool="p", path="P1/a\nb")
