"""The queues and what they are declared with."""

from actors.topology import rung_of


def test_a_rung_holds_messages_for_its_time_and_hands_them_back() -> None:
    rung = rung_of("requests", 5, static=True)
    assert rung.name == "requests.retry.5s"
    assert rung.arguments["x-message-ttl"] == 5_000
    assert rung.arguments["x-dead-letter-routing-key"] == "requests"
    assert "x-expires" not in rung.arguments


def test_a_pause_that_somebody_asked_for_goes_by_itself_but_never_before_its_messages() -> None:
    pause = rung_of("requests", 47, static=False)
    assert pause.name == "requests.pause.47s"
    assert pause.arguments["x-message-ttl"] == 47_000
    assert pause.arguments["x-expires"] > pause.arguments["x-message-ttl"] + 60_000
