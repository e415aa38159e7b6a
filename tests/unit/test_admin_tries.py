"""How often somebody may try to sign in."""

import pytest

from services.admin.sign_in_limits import REMEMBERED, TRIES, TRIES_OF_ALL, WITHIN_S, Tries, neighbourhood


class Watch:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def tries(watch: Watch) -> Tries:
    return Tries(watch)


def test_an_address_has_five_tries_and_then_waits_until_the_first_is_forgotten(
    tries: Tries, watch: Watch
) -> None:
    for _ in range(TRIES):
        assert not tries.locked_for("192.0.2.1")
        tries.failed("192.0.2.1")
        watch.now += 10
    assert tries.locked_for("192.0.2.1") == WITHIN_S - 10 * TRIES
    assert not tries.locked_for("192.0.2.2")
    watch.now += WITHIN_S - 10 * TRIES
    assert not tries.locked_for("192.0.2.1")


def test_whoever_knows_the_password_begins_anew(tries: Tries) -> None:
    for _ in range(TRIES - 1):
        tries.failed("192.0.2.1")
    tries.failed("192.0.2.2")
    tries.succeeded("192.0.2.1")
    for _ in range(TRIES - 1):
        tries.failed("192.0.2.1")
    assert not tries.locked_for("192.0.2.1")


def test_who_knows_the_password_takes_nothing_from_the_number_of_all(tries: Tries) -> None:
    for guess in range(TRIES_OF_ALL):
        tries.failed(f"10.0.0.{guess}")
        tries.succeeded(f"10.0.0.{guess}")
    assert tries.locked_for("192.0.2.1")


def test_a_browser_that_has_signed_in_before_has_tries_of_its_own(tries: Tries, watch: Watch) -> None:
    for guess in range(TRIES_OF_ALL):
        tries.failed(f"10.0.0.{guess // TRIES}")
    assert tries.locked_for("10.0.0.1")
    for _ in range(TRIES):
        assert not tries.locked_for("10.0.0.1", "known")
        tries.failed("10.0.0.1", "known")
    assert tries.locked_for("10.0.0.1", "known") == WITHIN_S
    assert not tries.locked_for("10.0.0.1", "another")
    for guess in range(REMEMBERED):
        tries.failed("10.0.0.1", f"browser-{guess}")
    assert len(tries._known) == REMEMBERED
    watch.now += WITHIN_S
    assert not tries.locked_for("10.0.0.1", "known")


def test_many_addresses_together_are_locked_out_too_and_take_no_more_memory(
    tries: Tries, watch: Watch
) -> None:
    for guesser in range(10 * TRIES_OF_ALL):
        address = f"10.0.{guesser // 250}.{guesser % 250}"
        if not tries.locked_for(address):
            tries.failed(address)
    assert len(tries._strangers) == TRIES_OF_ALL
    assert tries.locked_for("192.0.2.1") == WITHIN_S
    watch.now += WITHIN_S
    assert not tries.locked_for("192.0.2.1")
    assert not tries._strangers


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", "unknown"),
    ],
)
def test_addresses_of_one_network_are_one_guesser(address: str, expected: str) -> None:
    assert neighbourhood(address) == expected
