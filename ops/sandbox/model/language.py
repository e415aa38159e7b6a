"""What a language needs for horoscopes to be composed in it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Language:
    """Sentences with gaps, and what fills the gaps.

    Attributes:
        names: What `{sign}` stands for, by sign.
        nobody: What `{sign}` stands for where no sign is known.
        sentences: By topic: mood, work, money, love, health, advice, luck.
        fillings: By the gap's name; every filling fits grammatically.
        refusal: How a model declines.
        short: A text too short to be one.
        rambling: A sentence to be repeated until a text is too long.
    """

    names: dict[str, str]
    nobody: str
    sentences: dict[str, tuple[str, ...]]
    fillings: dict[str, tuple[str, ...]]
    refusal: str
    short: str
    rambling: str
