"""Laws of the pure parts: the redirect filter, words for numbers and dates, keys."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote, unquote, urljoin, urlsplit
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from beamhub_catalogue.views import EmbargoView
from beamhub_core.errors import ConfigInvalid
from beamhub_portal.hub_client import read_failure
from beamhub_portal.keys import build_keys, read_secret
from beamhub_portal.local_path import local_path, path_of
from beamhub_portal.words import embargo_words, from_now, size_words, time_left

BASE = "/services/web"
ORIGIN = "https://portal.example"
PARIS = ZoneInfo("Europe/Paris")

PIECES = (
    *("/", "//", "\\", "..", ".", "%2e", "%2f", "%5c", "%252e", "@", "evil.example", ":", "https:", "#", "?"),
    *("services", "web", "web2", "login", "open", "\t", "\n", "\r", "\0", " ", "\u2028", "%0a", ";", "a"),
)
tricky = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


@given(st.one_of(st.text(max_size=60), tricky, tricky.map(lambda tail: BASE + "/" + tail)))
@example("//evil.example")
@example("/services/web//evil.example")
@example("/services/web/../../hub/logout")
@example("/services/web/%2e%2e/%2e%2e/hub/logout")
@example("/services/web/..%2fhub")
@example("/services/web\\..\\hub")
@example("/services/website")
@example("https://evil.example/services/web/")
@example("/services/web/\n//evil.example")
@example("/services/web/login?next=/services/web/login")
def test_no_address_leads_out_of_the_portal(asked: str) -> None:
    path = local_path(asked, BASE)
    for decoded in (path, unquote(path)):
        parts = urlsplit(urljoin(ORIGIN + "/x", decoded))
        assert f"{parts.scheme}://{parts.netloc}" == ORIGIN
        assert parts.path.startswith(BASE + "/")
        assert ".." not in parts.path.split("/")
    assert path.isascii()
    assert path.isprintable()
    assert urlsplit(path).path.split("/")[3] not in ("login", "logout", "oauth_callback")


@given(st.text(min_size=1, max_size=40).filter(lambda pid: pid not in (".", "..")), st.text(max_size=30))
def test_our_own_open_link_survives_the_filter(pid: str, template: str) -> None:
    link = f"{path_of(BASE, 'open')}?pid={quote(pid)}&template={quote(template)}"
    assert local_path(link, BASE) == link


@pytest.mark.parametrize("asked", [None, "", "x" * 3000, BASE, "/", "/hub/home"])
def test_what_is_no_page_of_ours_becomes_the_front_page(asked: str | None) -> None:
    assert local_path(asked, BASE) == BASE + "/"


@given(st.integers(0, 10**15))
def test_a_size_never_shows_more_than_four_digits_before_its_unit(size_bytes: int) -> None:
    number, unit = size_words(size_bytes).split(" ")
    assert unit in ("B", "KiB", "MiB", "GiB", "TiB")
    assert 0 <= float(number) <= 1024


def test_an_embargo_is_named_with_its_day_in_the_facilitys_zone() -> None:
    midnight_in_paris = datetime(2029, 3, 11, 23, 0, tzinfo=UTC)
    view = EmbargoView("embargoed", midnight_in_paris, "standard", None)
    assert embargo_words(view, PARIS) == "Embargoed until 12 March 2029"
    assert embargo_words(EmbargoView("running", None, "standard", None), PARIS).startswith(
        "Experiment running"
    )


@given(st.integers(-(10**6), 10**8))
def test_the_way_to_an_end_is_never_negative(seconds: int) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    end = now + timedelta(seconds=seconds)
    assert "-" not in from_now(end, now) + time_left(end, now)
    assert (from_now(end, now) == "now") == (seconds <= 0)


def test_only_a_signed_failure_is_read_as_words_for_people() -> None:
    signed = read_failure("Both places are full. [full, reference ab12cd34]")
    assert signed is not None
    assert (signed.reason, signed.code, signed.reference) == ("Both places are full.", "full", "ab12cd34")
    assert read_failure("OSError: [Errno 13] Permission denied: '/home/x/token'") is None


@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=40))
def test_two_visits_never_share_an_xsrf_token(one: str, other: str) -> None:
    keys = build_keys("s" * 32)
    assert (keys.xsrf_token(one) == keys.xsrf_token(other)) == (one == other)


def test_a_short_or_missing_secret_is_refused_without_showing_it(tmp_path: Path) -> None:
    short = tmp_path / "secret"
    short.write_text("tooshort")
    with pytest.raises(ConfigInvalid, match="fewer than 32") as refused:
        read_secret(short, "web.cookie_secret_file")
    assert "tooshort" not in str(refused.value)
    with pytest.raises(ConfigInvalid, match="cannot be read"):
        read_secret(tmp_path / "missing", "web.cookie_secret_file")
