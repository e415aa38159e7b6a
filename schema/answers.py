"""An answer of the model, whatever came of it: also a refused one has its price."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """What one answer of the model cost.

    Args:
        model: The model's name, as the server gave it.
        prompt_tokens: Tokens read; None when the server did not count.
        completion_tokens: Tokens written; None when the server did not count.
        latency_ms: Milliseconds until the answer had come.
    """

    model: str
    prompt_tokens: int | None
    completion_tokens: int | None
    latency_ms: int
