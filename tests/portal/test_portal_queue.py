"""The queue on the pages, and the thread that makes it move; the hub is the double."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from beamhub_catalogue.models import SessionRow
from beamhub_catalogue.ticket_queue import drop_tickets_of, find_ticket, refuse_ticket, take_ticket
from beamhub_core.queue import TicketWanted
from beamhub_core.session import Limits, SessionRequest, server_name_for
from beamhub_portal.hub_client import HubClient
from beamhub_portal.queue_starter import QueueStarter
from portal.hub_double import Server  # the folder of these tests, not the room
from portal.portal_parts import BASE, EMBARGOED, Browser, House, person, text_of

FULL = "Everything beside this data is in use. [full, reference ab12cd34]"


def leave_all(house: House, account: str) -> None:
    """What a logout does: nothing of the account waits any more."""
    with house.service.database.writing() as session:
        drop_tickets_of(session, (account,))


@pytest.fixture
def ines(browser: Browser, house: House) -> Iterator[Browser]:
    """The principal investigator's browser, logged in; nothing of hers waits afterwards."""
    browser.log_in(person("ines"))
    yield browser
    leave_all(house, person("ines").account)


def wait_for(house: House, name: str, account: str | None = None) -> None:
    """What the hub does when there is no room."""
    wanted = TicketWanted(
        account=account or person("ines").account,
        server_name=name,
        request=SessionRequest(profile="small"),
        places=("here",),
        limits=Limits(cpu=1, memory_gib=2),
    )
    with house.service.database.writing() as session:
        take_ticket(session, wanted, house.config.sessions.queue, house.service.clock())


@pytest.fixture
def starter(house: House) -> Iterator[QueueStarter]:
    """The queue's hand at the hub; the tests look instead of its thread."""
    token = house.config.web.hub_service_token_file.read_text().strip()
    house.hub.tokens[token] = (person("ines").account, ())
    hub = HubClient(house.hub.api_url, token)
    yield QueueStarter(house.service.queue, hub, interval_s=3600)
    hub.close()


@pytest.fixture
def full(house: House) -> Iterator[None]:
    """A place without room, as the house's own thread sees it too."""
    with house.service.database.writing() as session:
        now = house.service.clock()
        session.add_all(
            SessionRow(
                plan_id=f"{i:032x}",
                plan_hash="0" * 64,
                plan={},
                account="somebody",
                server_name=str(i),
                state="running",
                created_at=now,
                expires_at=now,
                last_seen=now,
                place="here",
            )
            for i in range(8)
        )
    yield
    with house.service.database.writing() as session:
        for i in range(8):
            session.delete(session.get_one(SessionRow, f"{i:032x}"))


@pytest.mark.usefixtures("full")
def test_who_finds_no_room_sees_the_place_in_the_queue_and_can_leave_it(ines: Browser, house: House) -> None:
    pid = house.pid(EMBARGOED)
    name = server_name_for((pid,))
    house.hub.start_answer = (503, FULL)
    wait_for(house, name)
    launch = f"{BASE}/sessions/{name}/launch"
    answer = ines.send(f"{BASE}/open", pid=pid, template="powder", profile="small", _xsrf=ines.xsrf())
    assert (answer.status_code, answer.headers["location"]) == (303, launch)
    page = text_of(ines.get(launch))
    assert "You are at place 1 of the queue; the usual wait is not known yet" in page
    status = ines.get(f"{launch}/status").json()
    assert (status["state"], status["position"]) == ("queued", 1)
    listed = text_of(ines.get(f"{BASE}/sessions"))
    assert "In the queue" in listed
    for word in ("container", "pod", "Docker", "Kubernetes"):
        assert word not in page + listed
    left = ines.send(f"{BASE}/sessions/{name}/leave", _xsrf=ines.xsrf())
    assert left.status_code == 303
    assert house.service.queue.ticket(person("ines").account, name) is None
    assert "Nothing will be started" in text_of(ines.get(left.headers["location"]))


@pytest.mark.usefixtures("full")
def test_one_leaves_only_ones_own_place_and_only_by_form(ines: Browser, house: House) -> None:
    other = person("oscar")
    house.introduce(other)
    wait_for(house, "d-1", other.account)
    assert ines.send(f"{BASE}/sessions/d-1/leave", _xsrf=ines.xsrf()).status_code == 303
    assert house.service.queue.ticket(other.account, "d-1") is not None
    wait_for(house, "d-2")
    assert ines.send(f"{BASE}/sessions/d-2/leave", _xsrf="0").status_code == 403
    assert house.service.queue.ticket(person("ines").account, "d-2") is not None
    leave_all(house, other.account)


@pytest.mark.usefixtures("ines")
def test_a_turn_is_started_as_the_wish_that_waited(house: House, starter: QueueStarter) -> None:
    wait_for(house, "d-1")
    assert starter.look() == 1
    server = house.hub.servers[person("ines").account]["d-1"]
    assert server.options == {"datasets": [], "profile": "small"}
    assert starter.look() == 0  # claimed; its plan uses the ticket up


@pytest.mark.usefixtures("ines")
@pytest.mark.parametrize(
    ("status", "message", "reason"),
    [
        (503, FULL, None),
        (500, "Internal Server Error", None),
        (429, "Too many", None),
        (403, "Your right ended. [not_a_member, reference ab12cd34]", "Your right ended."),
        (403, "secret words of the hub", "It could not be started when it was its turn. Start it again."),
    ],
)
def test_a_start_that_fails_waits_again_or_says_why_not(
    house: House, starter: QueueStarter, status: int, message: str, reason: str | None
) -> None:
    house.hub.start_answer = (status, message)
    wait_for(house, "d-1")
    assert starter.look() == 1
    ticket = house.service.queue.ticket(person("ines").account, "d-1")
    assert ticket is not None
    assert ticket.reason == reason
    assert starter.look() == (1 if reason is None else 0)


@pytest.mark.usefixtures("ines")
def test_a_server_that_runs_already_is_waited_for_no_more(house: House, starter: QueueStarter) -> None:
    house.hub.servers[person("ines").account] = {"d-1": Server(ready=True)}
    wait_for(house, "d-1")
    assert starter.look() == 1
    assert house.service.queue.ticket(person("ines").account, "d-1") is None


@pytest.mark.usefixtures("full")
def test_a_refused_turn_is_told_on_the_launch_page(ines: Browser, house: House) -> None:
    wait_for(house, "d-1")
    queue = house.service.queue
    with house.service.database.writing() as session:
        ticket = find_ticket(session, person("ines").account, "d-1")
        assert ticket is not None
        refuse_ticket(ticket, "Your right to it ended. [not_a_member, reference ab12]", house.service.clock())
    page = text_of(ines.get(f"{BASE}/sessions/d-1/launch"))
    assert "Your right to it ended." in page
    assert "ab12" in page
    assert queue.tickets_of(person("ines").account) == ()
