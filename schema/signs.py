"""The twelve signs of the zodiac, and the two languages of their names."""

from enum import StrEnum


class Language(StrEnum):
    """A language of the interface or of the texts, by its ISO 639-1 code."""

    RU = "ru"
    EN = "en"


class Sign(StrEnum):
    """A sign of the zodiac, in the order of the year."""

    ARIES = "aries"
    TAURUS = "taurus"
    GEMINI = "gemini"
    CANCER = "cancer"
    LEO = "leo"
    VIRGO = "virgo"
    LIBRA = "libra"
    SCORPIO = "scorpio"
    SAGITTARIUS = "sagittarius"
    CAPRICORN = "capricorn"
    AQUARIUS = "aquarius"
    PISCES = "pisces"

    @property
    def symbol(self) -> str:
        """The astronomical symbol, drawn as an emoji."""
        return chr(0x2648 + list(Sign).index(self)) + "\ufe0f"

    def name_in(self, language: Language) -> str:
        """The sign's name, capitalised, in the nominative case."""
        return _RUSSIAN[self] if language is Language.RU else self.value.capitalize()


_RUSSIAN = {
    Sign.ARIES: "Овен",
    Sign.TAURUS: "Телец",
    Sign.GEMINI: "Близнецы",
    Sign.CANCER: "Рак",
    Sign.LEO: "Лев",
    Sign.VIRGO: "Дева",
    Sign.LIBRA: "Весы",
    Sign.SCORPIO: "Скорпион",
    Sign.SAGITTARIUS: "Стрелец",
    Sign.CAPRICORN: "Козерог",
    Sign.AQUARIUS: "Водолей",
    Sign.PISCES: "Рыбы",
}
