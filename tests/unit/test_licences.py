"""The licences of every package of the lock, and the bill of materials that tells them."""

import json
import re
from importlib.metadata import distribution
from pathlib import Path

import pytest
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement

from ops.sbom import Locked, bill_of_materials, licence_of, locked
from tests.unit.test_compose import ROOT

PACKAGES = list(locked("requirements-dev.lock"))

#: Licences that ask for no more than their notice.
ALLOWED = {"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "MIT", "MIT-0", "PSF-2.0"}
UNCHANGED = "MPL-2.0 covers its own files, which we use unchanged"
REPLACEABLE = "LGPL: used unchanged, as a library that everybody can replace"
#: Packages under other licences, each with the licence and the reason for which it may be used.
EXCEPTIONS = {
    "certifi": ("MPL-2.0", UNCHANGED),
    "dramatiq": ("LGPL-3.0-or-later", REPLACEABLE),
    "hypothesis": ("MPL-2.0", UNCHANGED),
    "orjson": ("MPL-2.0 AND (Apache-2.0 OR MIT)", UNCHANGED),
    "pathspec": ("MPL-2.0", UNCHANGED),
    "periodiq": ("LGPL-3.0-or-later", REPLACEABLE),
}
#: Packages that are locked and installed on other systems only, with the licence that their own pages name.
ELSEWHERE = {"colorama": "BSD-3-Clause", "httpx2-jsfetch": "BSD-3-Clause"}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: str(package.name))
def test_every_package_of_the_lock_may_be_used(package: Locked) -> None:
    installed = package.installed
    if installed is None:
        assert ELSEWHERE[package.name] in ALLOWED
        return
    assert installed.version == package.version, "run: make install"
    licence = licence_of(installed)
    assert licence, (
        f"{package.name} names no licence that we know; look at it, and teach ops/sbom.py its name"
    )
    if package.name in EXCEPTIONS:
        assert licence == EXCEPTIONS[package.name][0]
        return
    assert all(set(choices.strip("() ").split(" OR ")) & ALLOWED for choices in licence.split(" AND ")), (
        f"{package.name} is under {licence}: choose another package, or name the exception and its reason here"
    )


def test_every_exception_is_needed() -> None:
    names = {package.name for package in PACKAGES}
    assert EXCEPTIONS.keys() <= names
    assert {package.name for package in PACKAGES if package.installed is None} == ELSEWHERE.keys()


def test_the_lock_has_every_dependency_and_a_hash_for_each_package() -> None:
    names = {package.name for package in PACKAGES}
    for need in distribution("horoscope").requires or ():
        assert Requirement(need).name.lower().partition("[")[0] in names
    assert all(package.hashes for package in PACKAGES)
    assert {package.name for package in locked("requirements.lock")} < names


def test_the_bill_of_materials_tells_every_package_with_version_licence_and_hashes() -> None:
    written = JsonV1Dot6(bill_of_materials()).output_as_string()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(written) is None
    bill = json.loads(written)
    assert bill["metadata"]["component"]["name"] == "horoscope"
    components = {each["name"]: each for each in bill["components"]}
    assert {(name, each["version"]) for name, each in components.items()} == {
        (package.name, package.version) for package in PACKAGES
    }
    runtime = {package.name for package in locked("requirements.lock")}
    assert {name for name, each in components.items() if each["scope"] == "required"} == runtime
    for package in PACKAGES:
        component = components[package.name]
        (source,) = component["externalReferences"]
        assert {each["content"] for each in source["hashes"]} == set(package.hashes)
        assert bool(component.get("licenses")) is (package.installed is not None)
    needs = {each["ref"]: set(each.get("dependsOn", ())) for each in bill["dependencies"]}
    assert components["aiogram"]["purl"] in needs["horoscope"]
    assert components["aiohttp"]["purl"] in needs[components["aiogram"]["purl"]]


def test_make_sbom_writes_it() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(
        r"^sbom: install .*\n\t@\$\(BIN\)/python -m ops.sbom sbom.cdx.json$", makefile, re.MULTILINE
    )
    assert "sbom.cdx.json" in Path(ROOT / ".gitignore").read_text().splitlines()
