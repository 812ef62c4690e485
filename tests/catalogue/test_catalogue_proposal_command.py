"""`beamhub proposal`: acts upon proposals by an operator at a shell."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from beamhub_catalogue.models import AuditRow
from catalogue.catalogue_api_parts import OPEN, RAW
from catalogue.catalogue_parts import CLASSES
from catalogue.catalogue_shell_parts import AFTER, Shell, explain


class TestProposal:
    """`beamhub proposal`, by an operator."""

    @pytest.fixture
    def steps(self, shell: Shell) -> Shell:
        shell.facility.write_policy(
            CLASSES | {"standard": CLASSES["standard"] | {"extension_months": [12, 6]}}, "t2"
        )
        return shell

    def test_show_tells_what_the_policy_makes_of_it(self, steps: Shell) -> None:
        code, facts = steps.json("proposal", "show", "MA-2")
        assert code == 0
        assert (facts["rule"], facts["opens_at"], facts["extensions_left"]) == ("standard", AFTER, [12, 6])
        assert (facts["datasets"], facts["acts"], facts["metadata"]) == (1, [], "public")
        code, out, _ = steps.run("proposal", "show", "TO-3")
        assert code == 0
        assert "metadata: team" in out.splitlines()

    def test_an_unknown_proposal_is_not_found(self, steps: Shell) -> None:
        for words in (
            ("show", "MA-20"),
            ("show", "\0"),
            ("extend", "MA-20", "--months", "1", "--reason", "r"),
            ("withdraw", "MA-20", "--reason", "r"),
        ):
            code, out, err = steps.run("proposal", *words)
            assert (code, out) == (3, "")
            assert "No user office knows" in err

    def test_an_extension_is_made_shown_and_revoked(self, steps: Shell) -> None:
        code, made = steps.json("proposal", "extend", "MA-2", "--months", "12", "--reason", "a thesis")
        assert (code, made["opens_at"]) == (0, AFTER.replace("2028", "2029"))
        code, facts = steps.json("proposal", "show", "MA-2")
        (told,) = facts["acts"]
        assert (told["act"], told["months"], told["reason"]) == (made["act"], 12, "a thesis")
        assert (told["made_by"], facts["extensions_left"]) == ("operator", [6])
        code, out, _ = steps.run("proposal", "show", "MA-2")
        assert f"act {made['act']}: extension months 12 by operator at " in out
        code, undone = steps.json("proposal", "revoke", made["act"])
        assert (code, undone["opens_at"], undone["revoked_by"]) == (0, AFTER, "operator")
        code, out, _ = steps.run("proposal", "revoke", made["act"])
        assert code == 0
        assert "was before" in out
        assert "revoked by operator" in steps.run("proposal", "show", "MA-2")[1]
        assert self.audit_of(steps) == ["act", "act_revoked"]

    @staticmethod
    def audit_of(shell: Shell) -> list[str]:
        service = shell.facility.service()
        with service.database.reading() as session:
            found = session.scalars(select(AuditRow.kind).where(AuditRow.subject == "MA-2")).all()
        service.stop()
        return list(found)

    def test_a_release_a_withdrawal_and_a_consent_are_made(self, steps: Shell) -> None:
        tomorrow = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()
        later = (datetime.now(UTC) + timedelta(days=2)).isoformat()
        code, made = steps.json("proposal", "release", "TO-3", "--on", tomorrow, "--reason", "a paper")
        assert (code, made["opens_at"][:10]) == (0, tomorrow)
        code, made = steps.json("proposal", "consent", "MA-2", "--until", later, "--reason", "a ticket")
        assert (code, made["support_until"][:10]) == (0, later[:10])
        code, made = steps.json(
            "proposal", "withdraw", "MA-2", "--dataset", RAW, "--reason", "a wrong sample"
        )
        assert (code, made["withdrawn"]) == (0, False)
        assert explain(steps, RAW, "--as", "ines") == (4, "metadata", "standard: withdrawn")
        assert steps.run("proposal", "revoke", made["act"])[0] == 0
        assert explain(steps, RAW, "--as", "ines")[0] == 0
        code, made = steps.json("proposal", "withdraw", "OP-1", "--reason", "a wrong sample")
        assert (code, made["withdrawn"]) == (0, True)
        assert explain(steps, OPEN)[0] == 4

    def test_what_the_policy_does_not_allow_is_refused_with_its_limit(self, steps: Shell) -> None:
        for words, reason in (
            (("extend", "MA-2", "--months", "13"), "allows 12 months"),
            (("extend", "OP-1", "--months", "1"), "is open since 2021-03-05"),
            (("release", "MA-2", "--on", "2001-01-01"), "is past"),
            (("consent", "MA-2", "--until", "2001-01-01T00:00:00Z"), "ended already"),
        ):
            code, out, err = steps.run("proposal", *words, "--reason", "r")
            assert (code, out) == (4, "")
            assert reason in err
        assert self.audit_of(steps) == []

    def test_a_dataset_of_another_proposal_is_not_withdrawn_with_it(self, steps: Shell) -> None:
        code, answer = steps.json("proposal", "withdraw", "MA-2", "--dataset", OPEN, "--reason", "r")
        assert (code, answer["ok"]) == (3, False)

    def test_an_unknown_act_is_not_found(self, steps: Shell) -> None:
        for name in ("f" * 32, "MA-2", "\0"):
            code, _, err = steps.run("proposal", "revoke", name)
            assert code == 3
            assert "proposal show" in err
