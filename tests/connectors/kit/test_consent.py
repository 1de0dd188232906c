"""RFC 9700 for the client: state, PKCE, iss; one passage, one answer."""

from __future__ import annotations

import pytest

from connectors.kit import Consent, ReauthorizeError


def refusal(consent: Consent, answer: dict[str, str]) -> str:
    with pytest.raises(ReauthorizeError) as caught:
        consent.code(answer)
    return caught.value.code


def test_pkce_is_s256_of_a_secret_that_the_browser_never_sees() -> None:
    # RFC 7636, appendix B.
    consent = Consent("x", verifier="dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
    asked = consent.query()
    assert asked["code_challenge"] == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    assert asked["code_challenge_method"] == "S256"
    assert consent.verifier not in asked.values()
    assert consent.proof() == {"code_verifier": consent.verifier}
    assert consent.verifier not in repr(consent)
    assert consent.state not in repr(consent)


def test_every_passage_has_its_own_secrets() -> None:
    one, two = Consent("x"), Consent("x")
    assert one.state != two.state
    assert one.verifier != two.verifier
    assert min(len(one.state), len(one.verifier)) >= 43


def test_without_pkce_nothing_of_it_is_sent() -> None:
    consent = Consent("x", pkce=False)
    assert consent.query() == {"state": consent.state}
    assert consent.proof() == {}


def test_a_good_answer_works_once() -> None:
    consent = Consent("x")
    answer = {"code": "c", "state": consent.state}
    assert consent.code(answer) == "c"
    assert refusal(consent, answer) == "AC-106"


@pytest.mark.parametrize("wrong", [{"state": "other"}, {"state": ""}, {"state": "é"}, {}])
def test_an_answer_of_another_passage_is_thrown_away(wrong: dict[str, str]) -> None:
    consent = Consent("x")
    assert refusal(consent, {"code": "c", **wrong}) == "AC-106"
    # Guessing again is not possible either.
    assert refusal(consent, {"code": "c", "state": consent.state}) == "AC-106"


def test_a_missing_state_is_tolerated_only_where_nobody_knows() -> None:
    assert Consent("x", state_returns=False).code({"code": "c"}) == "c"
    assert refusal(Consent("x", state_returns=False), {"code": "c", "state": "no"}) == "AC-106"


def test_an_issuer_that_comes_must_be_the_one_that_was_asked() -> None:
    for iss, fine in ((None, True), ("https://id.example", True), ("https://evil.example", False)):
        consent = Consent("x", issuer="https://id.example")
        answer = {"code": "c", "state": consent.state} | ({"iss": iss} if iss else {})
        if fine:
            assert consent.code(answer) == "c"
        else:
            assert refusal(consent, answer) == "AC-106"


def test_a_person_who_refuses_is_told_so() -> None:
    consent = Consent("x")
    assert refusal(consent, {"error": "access_denied", "state": consent.state}) == "AC-105"
