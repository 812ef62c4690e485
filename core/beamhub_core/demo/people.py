"""The people and proposals of the demo facility."""

from __future__ import annotations

from dataclasses import dataclass, field

NAMESPACE = "urn:geant:beamhub.example"
CLIENT_ID = "beamhub-demo"


def group_urn(proposal: str, role: str | None = None) -> str:
    """The AARC-G069 entitlement of a proposal's members."""
    suffix = f":role={role}" if role else ""
    return f"{NAMESPACE}:group:proposals:{proposal}{suffix}#beamhub.example"


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who can log in to the demo."""

    subject: str
    name: str
    about: str
    organisation: str
    entitlements: tuple[str, ...] = ()
    role: str | None = None
    orcid: str | None = None

    def claims(self) -> dict[str, object]:
        """What the provider says of the person, in AARC's claims."""
        claims: dict[str, object] = {
            "name": self.name,
            "voperson_id": f"{self.subject}@beamhub.example",
            "schac_home_organization": self.organisation,
            "eduperson_entitlement": list(self.entitlements),
            "eduperson_assurance": [
                "https://refeds.org/assurance",
                "https://refeds.org/assurance/ID/unique",
                "https://refeds.org/assurance/IAP/medium",
            ],
        }
        if self.orcid:
            claims["orcid"] = self.orcid
        return claims


PEOPLE = (
    Person(
        "ines",
        "Ines Ferreira",
        "principal investigator of MA-6202, known only to the user office",
        "example-university.org",
    ),
    Person(
        "colin",
        "Colin Weber",
        "colleague on MA-6202 and TO-7303, by entitlement",
        "example-institute.org",
        entitlements=(group_urn("MA-6202"), group_urn("TO-7303", "member")),
    ),
    Person(
        "oscar",
        "Oscar Lind",
        "outsider, with a proposal elsewhere",
        "other-lab.org",
        entitlements=(group_urn("XX-0001"),),
    ),
    Person("sam", "Sam Okafor", "instrument scientist", "facility.example", role="instrument_scientist"),
    Person("tara", "Tara Novak", "trainer", "facility.example", role="trainer"),
    Person("vera", "Vera Rossi", "visitor, without any proposal", "example-university.org"),
)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A row of the demo's user office."""

    id: str
    title: str
    policy_class: str
    instrument: str
    start: str
    end: str
    members: tuple[tuple[str, str], ...] = field(default=())


def proposals(year: int) -> tuple[Proposal, ...]:
    """The three proposals; `year` is the present one, so that the embargoes are still running."""
    return (
        Proposal(
            "MA-5101",
            "Line standards for teaching powder diffraction",
            "open",
            "bl09",
            "2021-03-01",
            "2021-03-04",
            members=(("sam", "local_contact"),),
        ),
        Proposal(
            "MA-6202",
            "Perovskite electrodes under working conditions",
            "standard",
            "bl09",
            f"{year - 1}-10-06",
            f"{year - 1}-10-09",
            members=(("ines", "pi"), ("sam", "local_contact")),
        ),
        Proposal(
            "TO-7303",
            "Residual strain in steel welds",
            "confidential",
            "tofd",
            f"{year - 1}-11-03",
            f"{year - 1}-11-07",
            members=(("ines", "member"),),
        ),
    )
