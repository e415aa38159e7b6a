"""A private Prometheus, and what its expressions select."""

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any
from urllib.parse import urlencode

from ops.stack import ports
from ops.stack.programs import PROMETHEUS
from ops.stack.server import Server

_GROUPING = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_RANGE = re.compile(r"\[[^\]]*\]|\boffset\s+\w+")
# What is followed by a parenthesis is a function.
_SELECTOR = re.compile(r"(?<![\w:.])[a-zA-Z_:][\w:]*+(?!\s*\()\s*(?:\{[^}]*\})?")
_MATCHER = re.compile(r'(\w+)\s*=~\s*"([^"]*)"')
_OPERATORS = {"and", "or", "unless", "bool"}


class Prometheus(Server):
    """Prometheus, which reads the metrics of processes on this machine again and again.

    Args:
        folder: Made when missing.
        rules: The file of the rules.
        targets: The loopback ports of the processes.
    """

    title = "Prometheus"
    stop_signal = SIGTERM
    stop_grace = 2
    death_signal = SIGKILL

    def __init__(self, folder: Path, rules: Path, targets: Sequence[int]) -> None:
        super().__init__(folder)
        self._rules = rules
        self._targets = targets
        self._port = ports.free_port()

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self._port}"

    def ask(self, path: str, **parameters: str) -> Any:
        """The data that a call of its HTTP API gives.

        Raises:
            AssertionError: It says that the call is wrong.
        """
        try:
            with urllib.request.urlopen(
                f"{self.url}/api/v1/{path}?{urlencode(parameters)}", timeout=10
            ) as said:
                return json.load(said)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {json.load(error)['error']}") from None

    def _prepare(self) -> None:
        config = {
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
            "rule_files": [str(self._rules)],
            "scrape_configs": [
                {
                    "job_name": "horoscope",
                    "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in self._targets]}],
                }
            ],
        }
        (self.folder / "prometheus.yml").write_text(json.dumps(config))

    def _command(self) -> Sequence[str]:
        return [
            str(PROMETHEUS.path),
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=data",
            f"--web.listen-address=127.0.0.1:{self._port}",
            "--log.level=warn",
        ]

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as said:
                return bool(said.status == 200)
        except OSError:
            return False


def selectors(expression: str) -> Iterator[str]:
    """The vector selectors of an expression; one with alternatives of a label's value for each of these."""
    bare = _RANGE.sub(" ", _GROUPING.sub(" ", expression))
    for selector in _SELECTOR.findall(bare):
        if selector.strip() in _OPERATORS:
            continue
        alternatives = _MATCHER.search(selector)
        if alternatives and re.fullmatch(r"[\w|]+", alternatives[2]):
            for value in alternatives[2].split("|"):
                yield selector.replace(alternatives[0], f'{alternatives[1]}="{value}"').strip()
        else:
            yield selector.strip()


def grouped_by(expression: str) -> set[str]:
    """The labels that an expression groups or joins by."""
    return {
        label.strip()
        for _, labels in _GROUPING.findall(expression)
        for label in labels.split(",")
        if label.strip()
    }


def troubles(prometheus: Prometheus, expression: str) -> list[str]:
    """What in an expression does not fit the series that there are."""
    found = []
    labels: set[str] = set()
    for selector in selectors(expression):
        matching: list[Mapping[str, str]] = prometheus.ask("series", **{"match[]": selector})
        if not matching:
            found.append(f"nothing is {selector}, in {expression}")
        labels.update(*matching)
    if unknown := grouped_by(expression) - labels:
        found.append(f"nothing has a label {', '.join(sorted(unknown))}, in {expression}")
    prometheus.ask("query", query=expression)
    return found
