"""The alarms and the dashboard of `ops/`, held against what the processes really tell."""

import asyncio
import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from ruamel.yaml import YAML

from ops.sandbox import Sandbox
from ops.stack.ports import free_port as find_free_port
from ops.stack.programs import PROMTOOL
from schema.signs import Sign
from tests.acceptance.conftest import heading, reader_of, until_written
from tests.operators import PASSWORD
from tests.processes import Processes
from tests.prometheus import Prometheus, grouped_by, selectors, troubles
from tests.telling import until_health

OPS = Path(__file__).parents[2] / "ops"
RULES = OPS / "prometheus" / "rules.yml"
DASHBOARD = json.loads((OPS / "grafana" / "dashboard.json").read_text())


def rules() -> list[dict[str, Any]]:
    return [rule for group in YAML(typ="safe").load(RULES)["groups"] for rule in group["rules"]]


def panels() -> Iterator[tuple[str, str, str]]:
    """The title, the expression and the legend of everything that the dashboard shows."""
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            expression = target["expr"].replace("$__rate_interval", "20s")
            yield panel["title"], expression, target["legendFormat"]


async def test_every_rule_and_panel_selects_what_the_processes_really_tell(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection, tmp_path: Path
) -> None:
    ports = {kind: find_free_port() for kind in ("bot", "worker", "scheduler", "admin")}
    page = {"ADMIN_PASSWORD": PASSWORD, "ADMIN_LISTEN": f"127.0.0.1:{find_free_port()}"}
    for kind, port in ports.items():
        await processes.start(kind, environment=page | {"METRICS_LISTEN": f"127.0.0.1:{port}"})
    server = Prometheus(tmp_path / "prometheus", RULES, list(ports.values()))
    # Prometheus ends with the thread that starts it, which is therefore this one.
    server.launch()
    try:
        await until_written(sql)
        for port in ports.values():
            await until_health(port, "ready", 200)
        reader = await reader_of(sql, sandbox, 7, Sign.LEO)
        await reader.say("/today")
        await reader.wait_for(lambda messages: heading("Лев") in messages[-1].text)
        await asyncio.to_thread(server.wait_until_ready)
        await asyncio.to_thread(_until_known, server)
        found = await asyncio.to_thread(_troubles, server)
    finally:
        server.stop()
    assert not found, "\n".join(found)


def _until_known(server: Prometheus) -> None:
    """Wait until everything was read twice and computed from that."""
    known = "count(up == 1) == 4 and on() min(count_over_time(up[1m])) >= 3"
    recorded = [rule["record"] for rule in rules() if "record" in rule]
    queries = [known, *(f"count({name})" for name in recorded)]
    deadline = time.monotonic() + 20
    while not all(server.ask("query", query=query)["result"] for query in queries):
        assert time.monotonic() < deadline, server.ask("targets")
        time.sleep(0.1)


def _troubles(server: Prometheus) -> list[str]:
    found = []
    for rule in rules():
        found += troubles(server, rule["expr"])
    for title, expression, legend in panels():
        found += troubles(server, expression)
        result = server.ask("query", query=expression)["result"]
        if not result:
            found.append(f"the panel {title!r} is empty: {expression}")
        for label in re.findall(r"{{(\w+)}}", legend):
            found += [
                f"{title!r} has no {label}: {expression}" for each in result if label not in each["metric"]
            ]
    return found


def test_a_selector_is_found_wherever_it_stands() -> None:
    expression = """
        histogram_quantile(0.99, sum by (le, queue) (rate(a_bucket{queue="views",x!="1"}[5m]))) > 0.5
        or max(b offset 15m) unless on (queue) rec:c:p99{d=~"e|f"} * on (i) group_left (kind) g
    """
    assert list(selectors(expression)) == [
        'a_bucket{queue="views",x!="1"}', "b", 'rec:c:p99{d="e"}', 'rec:c:p99{d="f"}', "g",
    ]  # fmt: skip
    assert grouped_by(expression) == {"le", "queue", "i", "kind"}


@pytest.mark.parametrize(
    "check", [("rules", "rules.yml"), ("config", "prometheus.yml")], ids=lambda check: check[0]
)
def test_promtool_finds_no_fault(check: tuple[str, str]) -> None:
    what, file = check
    checked = subprocess.run(
        [PROMTOOL.path, "check", what, OPS / "prometheus" / file], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_each_alarm_comes_when_it_should_and_not_otherwise() -> None:
    file = OPS / "prometheus" / "rules_test.yml"
    checked = subprocess.run(
        [PROMTOOL.path, "test", "rules", file], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    tested = [each for group in YAML(typ="safe").load(file)["tests"] for each in group["alert_rule_test"]]
    alarms = {rule["alert"] for rule in rules() if "alert" in rule}
    assert {each["alertname"] for each in tested if "exp_alerts" in each} == alarms, "each comes"
    assert {each["alertname"] for each in tested if "exp_alerts" not in each} == alarms, "each stays away"


def test_each_alarm_says_what_happened_and_leads_to_its_section_of_the_runbook() -> None:
    runbook = (OPS / "RUNBOOK.md").read_text()
    section = runbook.partition("\n## Alarms of Prometheus\n")[2].partition("\n## ")[0]
    headings = re.findall(r"^### (\w+)$", section, re.MULTILINE)
    alarms = [rule for rule in rules() if "alert" in rule]
    assert sorted(headings) == sorted(rule["alert"] for rule in alarms)
    for rule in alarms:
        assert rule["annotations"].keys() == {"summary", "description", "runbook"}
        assert rule["annotations"]["runbook"] == f"ops/RUNBOOK.md#{rule['alert'].lower()}"
        assert rule["labels"].keys() == {"severity"}


def test_the_dashboard_can_be_imported_anywhere() -> None:
    assert DASHBOARD["uid"]
    assert [variable["type"] for variable in DASHBOARD["templating"]["list"]] == ["datasource"]
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    shown = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    for source in [*shown, *(target for panel in shown for target in panel["targets"])]:
        assert source["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
