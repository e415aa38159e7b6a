"""The documents hold together: their links, pictures and diagrams, and what they say about the code."""

import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ops.cli import console
from services.dead_letters.filters import JUDGEMENTS
from services.dead_letters.outcomes import OVER
from tests.unit.test_compose import ROOT, rows

DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "ops").glob("**/*.md")]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: A line of a flow chart or a sequence diagram that our documents use.
MERMAID = {
    "flowchart LR": re.compile(r"\w+(\(?\[+.+?\]+\)?|\[\(.+?\)\])? (-->|<-->)(\|[^|]+\|)? \w+(\(\[.+?\]\)|\[+\(?.+?\)?\]+)?"),
    "sequenceDiagram": re.compile(r"participant \w+ as .+|\w+->>\w+: .+|(alt|else) .+|end"),
}  # fmt: skip


#: What a command prints, as ``tests/golden`` has it; the fence may begin with the command.
SAMPLE = re.compile(r"^<!-- sample: (\S+) -->\n```\n((?:\$ [^\n]*\n)?)(.*?)^```$", re.MULTILINE | re.DOTALL)


def _prose(document: Path) -> str:
    return re.sub(r"`[^`\n]*`", "", FENCED.sub("", document.read_text()))


def _links(document: Path) -> Iterator[str]:
    """The targets of a document's links and pictures."""
    prose = _prose(document)
    yield from re.findall(r"\]\(([^)]+)\)", prose)
    yield from re.findall(r'(?:src|srcset|href)="([^"]+)"', prose)
    yield from re.findall(r"<(https?:[^>]+)>", prose)


def _anchors(document: Path) -> set[str]:
    """The anchors that GitHub gives to a document's headings."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", document.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    for link in _links(document):
        parts = urlsplit(link)
        if parts.scheme:
            assert parts.scheme in {"http", "https"}, link
            assert parts.netloc, link
            continue
        target = (document.parent / parts.path).resolve() if parts.path else document
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        assert not parts.fragment or parts.fragment in _anchors(target), link


def test_every_document_can_be_reached_from_the_readme() -> None:
    reached, ahead = set[Path](), [ROOT / "README.md"]
    while ahead:
        document = ahead.pop()
        reached.add(document)
        for link in _links(document):
            target = (document.parent / urlsplit(link).path).resolve()
            if target.suffix == ".md" and target not in {*reached, *ahead} and not urlsplit(link).scheme:
                ahead.append(target)
    assert reached >= set(DOCUMENTS)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_diagram_can_be_drawn(document: Path) -> None:
    for language, source in FENCED.findall(document.read_text()):
        if language == "mermaid":
            kind, *lines = source.strip().splitlines()
            for line in lines:
                assert MERMAID[kind].fullmatch(line.strip()), line


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_sample_is_what_its_command_prints(document: Path) -> None:
    """After a wanted change: ``GOLDEN=write pytest tests/unit/test_documents.py`` copies the samples anew."""

    def current(sample: re.Match[str]) -> str:
        printed = (ROOT / "tests" / "golden" / f"{sample[1]}.txt").read_text()
        return f"<!-- sample: {sample[1]} -->\n```\n{sample[2]}{printed}```"

    written = document.read_text()
    if os.environ.get("GOLDEN") == "write":
        document.write_text(SAMPLE.sub(current, written))
        return
    assert SAMPLE.sub(current, written) == written
    shown = {sample[0].partition("\n")[2] for sample in SAMPLE.finditer(written)}
    for fence in FENCED.finditer(written):
        assert fence[0] in shown or not fence[2].startswith("$ horoscope"), "a sample that nothing checks"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 160


def test_every_promise_names_the_tests_that_hold_it() -> None:
    promises = (ROOT / "ops/docs/promises.md").read_text().split("\n## ")[1:]
    assert [promise.split()[0] for promise in promises] == [f"P{number}" for number in range(1, 17)]
    for promise in promises:
        assert "../../tests/" in promise or promise.strip().endswith("\nPlanned.")


def test_the_documents_name_the_rows_of_the_benchmarks() -> None:
    promises, benchmarks = ((ROOT / f"ops/docs/{name}.md").read_text() for name in ("promises", "benchmarks"))
    program = (ROOT / "ops/bench/__main__.py").read_text()
    known = re.findall(r'^    "(\w+)": \w+\.measure,$', program, re.MULTILINE)
    listed = re.findall(r"Benchmarks(?:\]\(benchmarks\.md\))?: ([^.]+)\.", promises)
    assert {row.strip("`") for names in listed for row in names.split(", ")} <= set(known)
    (listed,) = re.findall(r"The rows are (.+)\.", benchmarks)
    assert re.findall(r"`(\w+)`", listed) == known


def test_the_documents_draw_the_house_as_the_checks_hold_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    floors, rooms, *_ = project["tool"]["importlinter"]["contracts"]
    described = rows("ops/docs/architecture.md", "The floors")
    assert [floor.strip("`") for floor, _ in described] == floors["layers"]
    described = rows("ops/docs/architecture.md", "The rooms of services")
    assert [re.findall(r"`(\w+)`", names) for names, _ in described] == [
        layer.split(" | ") for layer in rooms["layers"]
    ]


def test_the_documents_name_every_exit_code() -> None:
    found = {int(code) for code, _ in rows("ops/docs/operating.md", "Exit codes")}
    ours = {value for name, value in vars(console).items() if name.startswith("EXIT_")}
    assert found == {0, 2} | ours  # 2 is click's


def test_the_documents_name_every_verdict_and_every_outcome_of_a_replay() -> None:
    verdicts = rows("ops/docs/dead-letters.md", "What a replay would do")
    assert {verdict for verdict, _ in verdicts} == set(JUDGEMENTS)
    outcomes = {
        outcome.replace(" any more", "").replace(" ", "_")
        for outcome, _ in rows("ops/docs/dead-letters.md", "Replay")
    }
    assert outcomes - {"waiting"} == set(OVER) - {"superseded"}


def test_the_documents_name_only_metrics_that_exist() -> None:
    sources = [ROOT / "services/process/metrics.py", ROOT / "services/admin/metrics.py"]
    exposed = {name for each in sources for name in re.findall(r'"(horoscope_\w+)"', each.read_text())}
    for _, names in rows("ops/docs/operating.md", "Metrics and health"):
        assert set(re.findall(r"`(horoscope_\w+)`", names)) <= exposed
