"""The parser of entitlements under a fuzzer that follows its branches (atheris), with its laws as the alarm.

`make soak` runs it where atheris is installed (`pip install atheris`; it has wheels for some Pythons only),
and says so where it is not.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import sys
from types import FunctionType

from beamhub_core.entitlements import display_text, parse_capability, parse_entitlement, parse_entitlements

NAMESPACES = ("urn:geant:example.org", "urn:mace:egi.eu")
GOOD = "urn:geant:example.org:group:proposals:MA-1:role=pi#aai.example.org"
WORDS = (
    ":group:",
    ":res:",
    ":role=",
    ":act:",
    "urn:geant:example.org",
    "%3A",
    "%3a",
    "?+",
    "?=",
    "é",
    "\ud800",
    "x" * 990,
)
_KNOWN = re.compile(
    r"(?:urn:geant:example\.org|urn:mace:egi\.eu):(?:group|res)(?::[^:=#?%]*(?:%[0-9a-f]{2}[^:=#?%]*)*)+.*",
    re.IGNORECASE,
)


def check(text: str) -> None:
    """The laws that hold for every text; AssertionError where one does not.

    Nothing is raised; a value is a group or a capability, never both; what was read stands in the value; it
    means the same with another authority; and it is read among others as it is alone.
    """
    group, capability = parse_entitlement(text, NAMESPACES), parse_capability(text, NAMESPACES)
    assert group is None or capability is None, text
    together = parse_entitlements([text, None, GOOD], NAMESPACES)
    assert together.ignored == 1 + (group is None and capability is None), text
    if group is not None:
        path = [group.group, *group.subgroups] + ([f"role={group.role}"] if group.role is not None else [])
        again = f"{group.namespace}:group:{':'.join(path)}"
        assert parse_entitlement(again, NAMESPACES) == group.model_copy(update={"authority": None}), text
        _check_stands(again, text)
        assert isinstance(display_text(group.group), str)
    if capability is not None:
        path = [capability.resource, *capability.children]
        tail = f":act:{','.join(capability.actions)}" if capability.actions else ""
        again = f"{capability.namespace}:res:{':'.join(path)}{tail}#x"
        assert parse_capability(again, NAMESPACES) == capability.model_copy(update={"authority": "x"}), text
        _check_stands(f"{capability.namespace}:res:{':'.join(path)}", text)


def _check_stands(name: str, text: str) -> None:
    assert text.lower().startswith(name.lower()), text
    assert _KNOWN.fullmatch(text), text


def main() -> int:
    """Fuzz for a number of runs; 0 also where there is no atheris."""
    parser = argparse.ArgumentParser(description="The parser of entitlements under atheris.")
    parser.add_argument("--runs", type=int, default=300_000)
    options = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        sys.stderr.write("skipped: atheris is not installed, so nothing follows the parser's branches\n")
        return 0
    import atheris  # optional: it has no wheels for every Python

    for function in list(vars(sys.modules[parse_entitlement.__module__]).values()):
        if isinstance(function, FunctionType) and function.__module__ == parse_entitlement.__module__:
            atheris.instrument_func(function)
    atheris.Setup([sys.argv[0], f"-runs={options.runs}", "-max_len=60", "-print_final_stats=1"], _run)
    atheris.Fuzz()
    return 0


def _run(data: bytes) -> None:
    """One input: bytes beyond ASCII stand for words of the grammar, which chance alone would hardly spell."""
    text = "".join(chr(byte) if byte < 128 else WORDS[byte % len(WORDS)] for byte in data)
    check(text)
    # Most texts are foreign at once: the same ones also as the end of a value of ours.
    check(f"{NAMESPACES[0]}:group:{text}")
    check(f"{NAMESPACES[1]}:res:{text}")


if __name__ == "__main__":
    sys.exit(main())
