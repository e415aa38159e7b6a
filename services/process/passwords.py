"""Which passwords and secrets are too easy to guess."""

import re
import string
from itertools import pairwise

#: The fewest characters of a password that a person types or an address contains.
SHORTEST_PASSWORD = 12
#: The fewest characters of the webhook's secret, which nobody types.
SHORTEST_SECRET = 16

_FEWEST_DIFFERENT = 5
#: Words of which no password may consist, beside digits and punctuation; ``p4ssw0rd`` counts as one.
_WORDS = (
    "abc|admin|administrator|changeit|changeme|default|demo|example|geheim|guest|hello|horoscope|hunter|letmein|login|"
    "master|monkey|my|parol|pass|password|passwort|postgres|postgresql|qwerty|qwertyuiop|asdfghjkl|zxcvbnm|rabbit|"
    "rabbitmq|root|sample|secret|super|system|telegram|test|the|user|webhook|welcome|your|a|x"
)
_ONLY_WORDS = re.compile(rf"(?:{_WORDS})*")
_LETTERS = str.maketrans("013457@$", "oleastas")


def why_weak(secret: str, shortest: int = SHORTEST_PASSWORD) -> str:
    """The rule that a secret breaks; empty if it breaks none. The secret itself is not in the answer."""
    if len(secret) < shortest:
        return f"it has {len(secret)} characters; expected at least {shortest}"
    if len(set(secret)) < _FEWEST_DIFFERENT:
        return f"it repeats the same few characters; expected at least {_FEWEST_DIFFERENT} different ones"
    plain = secret.lower()
    if _is_run(plain):
        return "its characters follow each other, as in abcdef or 123456; expected a random value"
    core = plain.strip(f"{string.digits}{string.punctuation}")
    for spelling in (plain, core.translate(_LETTERS)):
        letters = "".join(filter(str.isalpha, spelling))
        if letters and _ONLY_WORDS.fullmatch(letters):
            return "it consists of well-known words, such as password or admin; expected a random value"
    return ""


def _is_run(text: str) -> bool:
    """Whether most characters follow the one before: 1234567890, abcdef, 4321."""
    steps = [ord(after) - ord(before) for before, after in pairwise(text)]
    return max(steps.count(1), steps.count(-1)) * 10 >= len(steps) * 8
