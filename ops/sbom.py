"""``make sbom``: every package of the lock as a bill of materials, in CycloneDX 1.6 (JSON).

Versions and hashes come from the lock files, licences and dependencies from the installed packages. A package that is
locked for other systems only has neither. ``scope`` is ``required`` for what runs in production, ``excluded`` for what
only development needs.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
_PACKAGE = re.compile(r"^(?P<name>[\w.-]+)==(?P<version>[^ ;]+)", re.MULTILINE)
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
#: What packages without an SPDX expression call their licences, in lower case.
_SPDX = {
    "apache 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd 2-clause license": "BSD-2-Clause",
    "bsd license": "BSD-3-Clause",
    "gnu lesser general public license v3 or later (lgplv3+)": "LGPL-3.0-or-later",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "new bsd": "BSD-3-Clause",
    "bsd": "BSD-3-Clause",
    "psfl": "PSF-2.0",
    "python software foundation license": "PSF-2.0",
}


@dataclass(frozen=True, slots=True)
class Locked:
    """One package of a lock file."""

    name: str  #: normalized
    version: str
    hashes: tuple[str, ...]  #: SHA-256 of each of its files, in hexadecimal

    @property
    def installed(self) -> Distribution | None:
        """The installed package; None: it is locked for other systems."""
        try:
            return distribution(self.name)
        except PackageNotFoundError:
            return None


def locked(file: str) -> Iterator[Locked]:
    """The packages of a lock file."""
    for block in re.split(r"\n(?=[\w])", (ROOT / file).read_text()):
        if found := _PACKAGE.match(block):
            yield Locked(canonicalize_name(found["name"]), found["version"], tuple(_HASH.findall(block)))


def licence_of(package: Distribution) -> str | None:
    """The licence of an installed package as an SPDX expression; None: it names none that is known."""
    told = package.metadata
    if "License-Expression" in told:
        return str(told["License-Expression"])
    named = [
        each.rpartition(" :: ")[2] for each in told.get_all("Classifier", []) if each.startswith("License ::")
    ]
    field = str(told["License"]) if "License" in told else ""
    # The field is the more exact one, if it is no whole text.
    for choice in ([field], named):
        ids = [_SPDX.get(each.lower(), each) for each in choice if each and "\n" not in each]
        if ids and all(re.fullmatch(r"[\w.-]+( (OR|AND) [\w.-]+)*", each) for each in ids):
            return " OR ".join(sorted(set(ids)))
    return None


def bill_of_materials() -> Bom:
    """The whole lock."""
    licences = LicenseFactory()
    runtime = {each.name for each in locked("requirements.lock")}
    bom = Bom()
    own = distribution("horoscope")
    bom.metadata.component = root = Component(
        name="horoscope",
        version=own.version,
        type=ComponentType.APPLICATION,
        bom_ref="horoscope",
        licenses=[licences.make_from_string(licence_of(own) or "")],
    )
    components: dict[str, Component] = {}
    packages = {each.name: each for each in locked("requirements-dev.lock")}
    for each in packages.values():
        installed = each.installed
        licence = licence_of(installed) if installed else None
        purl = PackageURL("pypi", name=each.name, version=each.version)
        components[each.name] = Component(
            name=each.name,
            version=each.version,
            type=ComponentType.LIBRARY,
            scope=ComponentScope.REQUIRED if each.name in runtime else ComponentScope.EXCLUDED,
            bom_ref=purl.to_string(),
            purl=purl,
            licenses=[licences.make_from_string(licence)] if licence else [],
            # Each hash is that of one of the package's files: pip takes any of them, and no other.
            external_references=[
                ExternalReference(
                    type=ExternalReferenceType.DISTRIBUTION,
                    url=XsUri(purl.to_string()),
                    hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest) for digest in each.hashes],
                )
            ],
        )
    bom.components.update(components.values())
    bom.register_dependency(
        root, [components[name] for name in _needs(own, {"", "dev"}) if name in components]
    )
    for name, component in components.items():
        installed = packages[name].installed
        needs = _needs(installed, {""}) if installed else set()
        bom.register_dependency(component, [components[need] for need in sorted(needs) if need in components])
    return bom


def _needs(package: Distribution, extras: set[str]) -> set[str]:
    """The packages that a package needs on this system."""
    needs = [Requirement(each) for each in package.requires or ()]
    return {
        canonicalize_name(need.name)
        for need in needs
        if not need.marker or any(need.marker.evaluate({"extra": extra}) for extra in extras)
    }


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(JsonV1Dot6(bill_of_materials()).output_as_string(indent=2) + "\n")
