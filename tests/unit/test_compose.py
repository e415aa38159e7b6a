"""What describes the service beside the code, held against the code: Docker Compose, settings, documents."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import certifi
import pytest
from ruamel.yaml import YAML

from actors import TABLE
from actors.worker import GRACE_MS
from ops.cli import main
from schema.messages import DEAD_LETTERS, HoroscopeRequested
from schema.signs import Sign
from services.admin.pages.runbook import anchor
from services.messaging.pauses import Pause
from services.messaging.queues import QueueStatus
from services.process.heartbeats import ProcessStatus
from services.process.settings import Settings, secret_settings
from services.status import DayStatus, Records, judge

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
SETTINGS = {name.upper(): field.default for name, field in Settings.model_fields.items()}


def shown(default: Any) -> str:
    """A default as a person writes it in ``.env``."""
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    return default.key if isinstance(default, ZoneInfo) else str(default or "")


@pytest.fixture
def services() -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe").load(COMPOSE)["services"]
    return found


@pytest.fixture
def processes(services: dict[str, Any]) -> dict[str, Any]:
    """The services that run our own image."""
    return {name: service for name, service in services.items() if "build" in service}


# docker-compose.yml and the image


def test_the_compose_file_fits_the_compose_specification() -> None:
    schema = ("--builtin-schema", "vendor.compose-spec")
    checked = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", *schema, COMPOSE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_compose_runs_commands_that_exist(processes: dict[str, Any]) -> None:
    assert {name: service["command"] for name, service in processes.items()} == {
        name: [name] for name in ("migrate", "bot", "worker", "scheduler", "admin")
    }
    assert processes.keys() <= main.commands.keys()


#: The secrets that a process uses.
NEEDED = {
    "migrate": {"migration_database_url", "database_url"},
    "bot": {"database_url", "rabbitmq_url", "bot_token", "webhook_secret"},
    "worker": {"database_url", "rabbitmq_url", "bot_token", "openai_api_key"},
    "scheduler": {"database_url", "rabbitmq_url"},
    "admin": {"database_url", "rabbitmq_url", "rabbitmq_management_url", "admin_password"},
}
#: Settings of one process only.
OWN = {"WEBHOOK_LISTEN": "bot", "ADMIN_LISTEN": "admin", "ADMIN_PROXIES": "admin"}


def filled_in(value: str, environment: dict[str, str]) -> str:
    """A value of docker-compose.yml as Compose fills it in."""

    def fill(variable: re.Match[str]) -> str:
        given = environment.get(variable["name"], "")
        return (given and variable["other"]) if variable["how"] == "+" else given or variable["other"]

    return re.sub(r"\$\{(?P<name>\w+):(?P<how>[-+])(?P<other>[^}]*)\}", fill, value)


def test_every_process_gets_every_setting_and_only_the_secrets_that_it_uses_as_files(
    processes: dict[str, Any], secrets_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If you add a setting: name it in docker-compose.yml, and a secret in ``secrets`` there and in ops/secrets.sh."""
    secret = {name.upper() for name in secret_settings()}
    public = SETTINGS.keys() - secret - OWN.keys()
    own = {"OPENAI_MODEL": "a-model", "CA_FILE": certifi.where(), "HOME_TIMEZONE": "Europe/London"}
    for name, service in processes.items():
        files = {f"{each.upper()}_FILE": f"/run/secrets/{each}" for each in NEEDED[name]}
        settings = service["environment"]
        assert settings.keys() == public | files.keys() | {
            each for each, whose in OWN.items() if whose == name
        }
        assert {each: settings[each] for each in files} == files
        assert set(service["secrets"]) == NEEDED[name]
        assert "env_file" not in service
        with monkeypatch.context() as patch:
            patch.chdir(secrets_folder)  # a container has no .env
            for each, value in settings.items():
                here = filled_in(value, own).replace("/run/secrets", str(secrets_folder))
                patch.setenv(each, here.replace("/etc/horoscope-ca.pem", certifi.where()))
            read = Settings.read(*NEEDED[name])
        assert (read.log_format, read.openai_model, read.home_timezone.key) == (
            "json",
            "a-model",
            "Europe/London",
        )
        for each in secret_settings():
            given = getattr(read, each)
            assert bool(given and given.get_secret_value()) == (each in NEEDED[name])


@pytest.fixture
def secrets_folder(tmp_path: Path) -> Path:
    """What ops/secrets.sh writes."""
    (tmp_path / ".env").write_text("BOT_TOKEN=123456:ABC-DEF\nOPENAI_API_KEY='sk-$key'\n")
    environment = {"PATH": os.environ["PATH"], "SECRETS_ROOT": str(tmp_path)}
    subprocess.run([ROOT / "ops" / "secrets.sh"], env=environment, check=True, stdin=subprocess.DEVNULL)
    return tmp_path / "secrets"


def test_the_secrets_are_random_readable_by_a_container_and_written_once(secrets_folder: Path) -> None:
    compose = YAML(typ="safe").load(COMPOSE)
    assert compose["secrets"] == {name: {"file": f"./secrets/{name}"} for name in compose["secrets"]}
    written = {file.name: file.read_text() for file in secrets_folder.iterdir()}
    assert compose["secrets"].keys() <= written.keys()
    assert secrets_folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in secrets_folder.iterdir()} == {0o644}
    assert written["openai_api_key"] == "sk-$key"
    passwords = [value for name, value in written.items() if name.endswith("password")]
    assert len({*passwords, written["webhook_secret"]}) == 6
    (secrets_folder / "rabbitmq_app_password").write_text("another")
    environment = {"PATH": os.environ["PATH"], "SECRETS_ROOT": str(secrets_folder.parent)}
    subprocess.run([ROOT / "ops" / "secrets.sh"], env=environment, check=True, stdin=subprocess.DEVNULL)
    again = {file.name: file.read_text() for file in secrets_folder.iterdir()}
    changed = {name for name, value in again.items() if value != written[name]}
    assert changed == {"rabbitmq_app_password", "rabbitmq_url", "rabbitmq_definitions"}


def test_the_bot_s_token_is_not_made_up(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "SECRETS_ROOT": str(tmp_path)}
    script = subprocess.run(
        [ROOT / "ops" / "secrets.sh"], env=environment, check=False, stdin=subprocess.DEVNULL,
        capture_output=True, text=True,
    )  # fmt: skip
    assert script.returncode == 1
    assert script.stderr == "BOT_TOKEN is missing: put it into .env, or into the file secrets/bot_token\n"


def test_the_secrets_are_kept_out_of_the_repository_and_the_image() -> None:
    assert "secrets/" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_servers_cannot_be_reached_from_outside_nor_reach_out(services: dict[str, Any]) -> None:
    networks = YAML(typ="safe").load(COMPOSE)["networks"]
    assert networks["back"] == {"internal": True}
    joined = {name: set(service["networks"]) for name, service in services.items()}
    assert joined == {
        **{name: {"back"} for name in ("postgres", "rabbitmq", "migrate", "scheduler")},
        **{name: {"back", "front"} for name in ("bot", "worker", "admin")},
        "prometheus": {"back", "monitoring"},
        "grafana": {"monitoring"},
    }
    assert not any("ports" in services[name] for name, where in joined.items() if where == {"back"})


def test_the_servers_that_are_spoken_to_in_plain_text_are_those_of_the_inner_network(
    services: dict[str, Any], processes: dict[str, Any]
) -> None:
    for service in processes.values():
        for host in filled_in(service["environment"]["UNENCRYPTED_HOSTS"], {}).split(","):
            assert services[host]["networks"] == ["back"]


def test_the_processes_wait_for_the_migration_and_the_migration_for_the_database(
    processes: dict[str, Any],
) -> None:
    assert processes["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    for name in processes.keys() - {"migrate"}:
        needed = {server: each["condition"] for server, each in processes[name]["depends_on"].items()}
        assert needed == {
            "migrate": "service_completed_successfully",
            "postgres": "service_healthy",
            "rabbitmq": "service_healthy",
        }


def test_the_processes_may_do_little(processes: dict[str, Any]) -> None:
    for service in processes.values():
        assert service["read_only"]
        assert service["init"]
        assert service["cap_drop"] == ["ALL"]
        assert "user" not in service, "the image's own user is not root"


def test_everything_is_bounded_and_comes_back(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["restart"] == ("no" if name == "migrate" else "unless-stopped")
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}
        assert service["deploy"]["resources"]["limits"]["memory"]
        assert name == "migrate" or "healthcheck" in service
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_nothing_listens_beyond_this_machine(services: dict[str, Any]) -> None:
    for service in services.values():
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:")


def test_the_page_believes_the_gateway_that_published_ports_are_reached_from_and_nobody_else(
    processes: dict[str, Any],
) -> None:
    (network,) = YAML(typ="safe").load(COMPOSE)["networks"]["front"]["ipam"]["config"]
    assert processes["admin"]["environment"]["ADMIN_PROXIES"] == network["gateway"]


def test_a_stopping_worker_is_given_its_grace(processes: dict[str, Any]) -> None:
    grace = processes["worker"]["stop_grace_period"]
    assert int(grace.removesuffix("s")) > GRACE_MS / 1000


def test_a_process_is_healthy_while_it_says_that_it_is_ready(processes: dict[str, Any]) -> None:
    for name in processes.keys() - {"migrate"}:
        port = processes[name]["environment"]["METRICS_LISTEN"].rpartition(":")[2]
        *_, asked = processes[name]["healthcheck"]["test"]
        assert f'"127.0.0.1", {port}' in asked
        assert '"/health/ready"' in asked, "a test of the health itself runs these lines"
        assert f":{port}" not in "".join(processes[name].get("ports", ())), "nobody signs in there"


def test_the_monitoring_looks_at_what_is_there(services: dict[str, Any], processes: dict[str, Any]) -> None:
    prometheus = YAML(typ="safe").load(ROOT / "ops" / "prometheus" / "prometheus.yml")
    (job,) = prometheus["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    assert processes.keys() - {"migrate"} <= set(found["names"])
    assert processes["bot"]["environment"]["METRICS_LISTEN"].endswith(f":{found['port']}")
    for name in ("prometheus", "grafana"):
        assert services[name]["profiles"] == ["monitoring"]
        for volume in services[name]["volumes"]:
            source = volume.partition(":")[0]
            assert not source.startswith(".") or (ROOT / source).is_dir()


def test_the_image_takes_packages_by_their_hashes_and_does_not_run_as_root() -> None:
    dockerfile = (ROOT / "ops" / "Dockerfile").read_text().replace("\\\n", " ")
    installs = [line for line in dockerfile.splitlines() if re.search(r"pip .*install", line)]
    assert any("-r requirements.lock" in line for line in installs)
    for line in installs:
        assert "--require-hashes" in line or "--no-deps --no-index" in line
    last_stage = dockerfile.rpartition("\nFROM ")[2]
    assert re.findall(r"^USER (.*)$", last_stage, re.MULTILINE) == ["10001:10001"]


def test_every_package_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    floors = ("schema", "migrations", "services", "actors", "ops")
    found = [path.parent for floor in floors for path in (ROOT / floor).rglob("__init__.py")]
    named = {path.relative_to(ROOT).as_posix().replace("/", ".") for path in found}
    assert named <= set(project["tool"]["setuptools"]["packages"])


def test_the_image_is_given_its_packages_and_never_a_secret() -> None:
    _, everything, *kept, caches = (ROOT / ".dockerignore").read_text().splitlines()
    assert (everything, caches) == ("*", "**/__pycache__/")
    folders = {line.strip("!/") for line in kept if line.endswith("/")}
    assert folders == {"actors", "migrations", "ops", "schema", "services"}
    files = {line.strip("!") for line in kept if not line.endswith("/")}
    assert files == {"LICENSE", "README.md", "pyproject.toml", "requirements.lock", "requirements-dev.lock"}


# .env.example


def test_the_example_lists_every_setting_with_a_comment_and_its_default() -> None:
    listed = {}
    for block in (ROOT / ".env.example").read_text().split("\n\n")[1:]:
        comment, *lines = block.strip().splitlines()
        assert re.match(r"# [A-Za-z].*\.$", comment), block
        for line in lines:
            hidden, name, value = re.fullmatch(r"(# )?([A-Z_]+)=(.*)", line).groups()  # type: ignore[union-attr]
            assert name not in listed
            assert hidden or not value, f"{name} is neither a default nor empty"
            listed[name] = value
    of_compose = set(re.findall(r"\$\{([A-Z_]+)", COMPOSE.read_text())) - SETTINGS.keys()
    assert listed.keys() == SETTINGS.keys() | of_compose
    for name, default in SETTINGS.items():
        if default is not None:
            assert listed[name] == shown(default)


# README.md and ops/docs


def rows(document: str, heading: str) -> list[list[str]]:
    """The cells of the first table under a heading."""
    text = re.split(rf"(?m)^#+ {heading}$", (ROOT / document).read_text())[1].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def test_the_documents_name_every_setting_with_its_default() -> None:
    def told(default: Any) -> str:
        if default is None:
            return "—"
        return f"`{shown(default)}`" if shown(default) else "empty"

    found = {name.strip("`"): default for name, default, _ in rows("ops/docs/settings.md", "Settings")}
    assert found == {name: told(default) for name, default in SETTINGS.items()}


def test_the_documents_name_every_command() -> None:
    found = [command.strip("`") for command, _ in rows("ops/docs/operating.md", "Commands")]
    targets = re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert sorted(found) == sorted(
        [
            *(f"horoscope {name}" for name in main.commands),
            *(f"make {name}" for name in targets if name != "help"),
        ]
    )


def test_the_documents_name_every_command_for_dead_letters_and_only_options_that_exist() -> None:
    found = {}
    for command, described in rows("ops/docs/dead-letters.md", "Commands"):
        _, name, *_ = command.strip("`").split()
        found[name] = set(re.findall(r"`(--[a-z-]+)", described))
    commands = main.commands["dead"].commands  # type: ignore[attr-defined]
    assert found.keys() == commands.keys()
    for name, options in found.items():
        assert options <= {text for each in commands[name].params for text in each.opts}, name


def test_the_documents_name_only_options_that_exist() -> None:
    for command, described in rows("ops/docs/operating.md", "Commands"):
        name = command.strip("`").removeprefix("horoscope ")
        options = (
            {text for each in main.commands[name].params for text in each.opts}
            if name in main.commands
            else {}
        )
        for option in re.findall(r"`(--[a-z]+)", described):
            assert option in options, f"horoscope {name} {option}"


def test_the_readme_tells_the_table_of_actors() -> None:
    found = [
        (
            message.partition(",")[0].strip("`"),
            handler.partition("`:")[0].strip("`"),
            queue.strip("`"),
            ladder,
        )
        for message, handler, queue, ladder in rows("README.md", "Actors")
    ]
    assert found == [
        (actor.message.__name__, actor.handler.__name__, actor.queue, actor.ladder.value) for actor in TABLE
    ]
    assert sum(name == HoroscopeRequested.__name__ for name, *_ in found) == 2


def test_the_readme_names_every_dependency_with_a_licence() -> None:
    project = (ROOT / "pyproject.toml").read_text().partition("dependencies = [")[2].partition("\n]")[0]
    named = [name for _, names in rows("README.md", "Licence") for name in names.split(", ")]
    assert sorted(named) == sorted(re.findall(r'^    "([a-z0-9-]+)', project, re.MULTILINE))


# ops/RUNBOOK.md

RUNBOOK = (ROOT / "ops" / "RUNBOOK.md").read_text()


def test_the_runbook_answers_every_alarm() -> None:
    states = {sign.value: "given_up" for sign in Sign} | {"leo": "missing"}
    today = DayStatus(date(2026, 11, 22), states, [])
    counts = SimpleNamespace(
        views=0, waiters=3, overdue=3, parked=4, readers=5, dead=6, done=0, unheard=7, tokens=9, cost_usd=None
    )
    down = SimpleNamespace(refused=False, failures=3, since=datetime(2026, 11, 22, tzinfo=UTC), reason="500")
    refusing = SimpleNamespace(refused=True, failures=3, since=down.since, reason="401")
    queues = [QueueStatus(DEAD_LETTERS, 2, 0), QueueStatus("views", 0, 0)]
    forgotten = {"ticks": Pause("ticks", "ann", "", datetime(2026, 11, 22, tzinfo=UTC), 3601)}
    alarms = [
        *judge(Records([today], [], None, down, "the daily limit is reached", counts, []), queues).alarms,
        *judge(Records([today], [], 10, refusing, None, counts, [], forgotten), []).alarms,
    ]
    assert len({str(alarm) for alarm in alarms}) == 18
    headings = re.findall(r"^### (.+)\n\n\*\*`(.+)`\*\*$", RUNBOOK, re.MULTILINE)
    sections = {anchor(heading): pattern_of(words) for heading, words in headings}
    for alarm in alarms:
        assert re.fullmatch(sections[alarm.section], str(alarm)), alarm
    for section, pattern in sections.items():
        assert any(re.fullmatch(pattern, str(alarm)) for alarm in alarms if alarm.section == section), section


def pattern_of(words: str) -> str:
    """What an alarm of the runbook matches."""
    return re.sub(r"…|DAY|SIGNS", ".+", re.escape(words))


def test_dead_letters_that_nobody_can_mend_raise_no_alarm() -> None:
    counts = SimpleNamespace(
        views=0, waiters=0, overdue=0, parked=0, readers=0, dead=0, done=4, unheard=0, tokens=0, cost_usd=None
    )
    seen = judge(Records([], [], 10, None, None, counts, []), None)
    assert [alarm for alarm in seen.alarms if "dead" in str(alarm)] == []
    assert (seen.dead_letters, seen.done_letters) == (0, 4)
    assert seen.notes == [
        '4 dead letters have nothing left to do; drop them: horoscope dead drop --verdict done --why "nothing left to do"'
    ]
    counts.dead, counts.done = 2, 1
    assert (
        judge(Records([], [], 10, None, None, counts, []), None)
        .notes[0]
        .startswith("1 more dead letter has ")
    )


@pytest.mark.parametrize(
    ("waiting", "consumers", "alarms"),
    [
        (0, 1, ["3 dead letters need a decision"]),
        (2, 1, ["5 dead letters need a decision"]),
        (0, 0, ["3 dead letters need a decision"]),
        (2, 0, ["no worker consumes the queue dead_letters", "5 dead letters need a decision"]),
        (None, None, ["3 dead letters need a decision"]),
    ],
)
def test_dead_letters_are_those_in_the_archive_and_on_their_way_there(
    waiting: int | None, consumers: int | None, alarms: list[str]
) -> None:
    counts = SimpleNamespace(
        views=0, waiters=0, overdue=0, parked=0, readers=0, dead=3, done=0, unheard=0, tokens=0, cost_usd=None
    )
    queues = None
    if waiting is not None and consumers is not None:
        queues = [QueueStatus(DEAD_LETTERS, waiting, consumers), QueueStatus("views", 0, 1)]
    told = judge(Records([], [], 10, None, None, counts, []), queues)
    assert [str(alarm) for alarm in told.alarms if "dead" in str(alarm)] == alarms
    assert told.dead_letters == 3 + (waiting or 0)


@pytest.mark.parametrize("lost", ["bot", "worker", "scheduler"])
def test_all_is_not_well_while_a_kind_of_process_does_not_live(lost: str) -> None:
    now = datetime(2026, 11, 22, tzinfo=UTC)
    living = [
        ProcessStatus(kind, "host", 7, "0.1.0", now, now, lost=kind == lost)
        for kind in ("bot", "worker", "worker", "scheduler")
    ]
    counts = SimpleNamespace(
        views=0, waiters=0, overdue=0, parked=0, readers=0, dead=0, done=0, unheard=0, tokens=0, cost_usd=None
    )
    told = judge(Records([], [], 10, None, None, counts, living), None)
    assert [*map(str, told.alarms)] == [f"no {lost} runs"]
    assert told.running == {"bot": 1, "worker": 2, "scheduler": 1, "admin": 0} | {lost: 0}


def test_a_paused_queue_needs_a_person_only_when_it_may_have_been_forgotten() -> None:
    def alarms(age_s: float) -> list[str]:
        pause = Pause("views", "ann@host", "why <not>", datetime(2026, 11, 22, 6, 35, tzinfo=UTC), age_s)
        counts = SimpleNamespace(
            views=0,
            waiters=0,
            overdue=0,
            parked=0,
            dead=0,
            done=0,
            unheard=0,
            readers=0,
            tokens=0,
            cost_usd=None,
        )
        queues = [QueueStatus("views", 7, 0), QueueStatus("ticks", 0, 0)]
        told = judge(Records([], [], 10, None, None, counts, [], {"views": pause}), queues)
        assert told.pauses == [pause]
        return [str(alarm) for alarm in told.alarms if " runs" not in str(alarm)]

    nobody = "no worker consumes the queue ticks"
    assert alarms(3600) == [nobody]
    assert alarms(3601) == [
        nobody, "the queue views has been paused since 2026-11-22 06:35 UTC by ann@host: why <not>"
    ]  # fmt: skip


def _logged() -> Iterator[tuple[str, str]]:
    """Every event that the code logs, with its level."""
    for floor in ("actors", "services"):
        for module in (ROOT / floor).rglob("*.py"):
            for node in ast.walk(ast.parse(module.read_text())):
                match node:
                    case ast.Call(
                        func=ast.Attribute(value=ast.Name(id="log"), attr=level),
                        args=[ast.Constant(value=str(event)), *_],
                    ):
                        yield event, level


def test_the_runbook_explains_the_events_of_the_logs() -> None:
    section = RUNBOOK.partition("\n## What the logs say\n")[2].partition("\n## ")[0]
    tables = "\n".join(line.split("|")[1] for line in section.splitlines() if line.startswith("|"))
    course = section.partition("\n### The course of a day\n")[2]
    explained = set(re.findall(r"`([a-z_]+\.[a-z_]+)`", tables + course))
    logged = dict(_logged())
    assert explained == logged.keys()
