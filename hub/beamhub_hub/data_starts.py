"""New data needs a current answer: while nobody can confirm rights, nothing is started with them."""

from __future__ import annotations

from beamhub_core.config.login import LoginConfig
from beamhub_hub.pages import PageError
from beamhub_spawners.session_options import OptionsRefused, read_options

SHORTEST_AGE_S = 60.0


def data_answer_age_s(login: LoginConfig) -> float:
    """How old the providers' answers may be when a session with datasets starts, in seconds."""
    return max(SHORTEST_AGE_S, 2 * login.refresh_s)


def names_data(user_options: object) -> bool:
    """Whether a server's options name datasets; yes for options that cannot be read."""
    try:
        return bool(read_options(user_options).datasets)
    except OptionsRefused:
        return True


def too_old_page() -> PageError:
    """The page of a start that only a new login can allow."""
    advice = "Your login is too old to start something. Log out and in again."
    return PageError(403, "Your login is too old", advice)


def unconfirmed_page() -> PageError:
    """The page of a start with data while an identity provider cannot confirm who may see it."""
    advice = (
        "The identity provider is not available, so your rights on data cannot be confirmed and no session "
        "with datasets starts now. What runs keeps running. Try again in a few minutes, or log out and in "
        "again."
    )
    return PageError(503, "Identity provider not available", advice)
