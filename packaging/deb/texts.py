"""The texts of a Debian package that are made from other texts: control, changelog, copyright."""

import re
from collections.abc import Iterator
from email.utils import formatdate
from importlib.metadata import Distribution, distributions
from pathlib import Path
from textwrap import indent
from typing import Final

DESCRIPTIONS: Final = {
    "handfast": """pair with a device once, then reach no other
handfast pairs a client and a device over the local network. Afterwards every
connection is authenticated by the keys of both sides: CoAP over DTLS, without
a certificate authority, an account in a cloud, or a clock.
.
This package contains the client and the libraries that both sides use.""",
    "handfast-device": """daemon of a device that handfast clients pair with
The daemon gives a Linux board users, roles and policies. It runs as a service
of its own user in a sandbox and starts at boot.
.
After the first installation the device can be paired for five minutes.
`handfast-device open` opens the pairing window again.""",
}
"""The description of each package, by its name."""

_LICENSE_TEXT: Final = re.compile(
    r"^[ \t]*(Apache License|GNU (?:LESSER )?GENERAL PUBLIC LICENSE)\s+Version ([0-9.]+),.*",
    re.MULTILINE | re.DOTALL,
)
_COMMON: Final = {
    ("Apache License", "2.0"): "Apache-2.0",
    ("GNU GENERAL PUBLIC LICENSE", "2"): "GPL-2",
    ("GNU LESSER GENERAL PUBLIC LICENSE", "2.1"): "LGPL-2.1",
}
"""Licenses whose text every Debian system has in /usr/share/common-licenses."""

_OTHERS: Final = """
This package also contains the following Python packages, as their authors
published them. Some of their compiled modules contain libraries of other
projects: cryptography contains OpenSSL (Apache-2.0), and cffi libffi (MIT)."""


def control(package: str, fields: dict[str, str]) -> str:
    """Return the file `control` of a package."""
    lines = [f"{name}: {value}" for name, value in fields.items()]
    short, _, rest = DESCRIPTIONS[package].partition("\n")
    lines += [f"Description: {short}", indent(rest, " ", lambda _line: True)]
    return "\n".join([f"Package: {package}", *lines]) + "\n"


def changelog(package: str, releases: list[tuple[str, float]], suite: str, maintainer: str) -> str:
    """Return Debian's changelog: an entry for each version, with its date, newest first."""
    return "\n".join(
        f"{package} ({version}) {suite}; urgency=medium\n\n"
        f"  * Release {version}. The changes are listed in changelog.gz.\n\n"
        f" -- {maintainer}  {formatdate(date)}\n"
        for version, date in releases
    )


def own_copyright() -> str:
    """Return the license of handfast itself."""
    return (
        "handfast is distributed under the Apache License, version 2.0, which is in\n"
        "/usr/share/common-licenses/Apache-2.0 on Debian systems.\n\n"
        "Copyright (C) 2026 the contributors of handfast\n"
    )


def copyright_of(site: Path) -> str:
    """Return the license of handfast and those of all packages in `site`."""
    found = distributions(path=[str(site)])
    others = [one for one in found if one.metadata["Name"] != "handfast"]
    others.sort(key=lambda one: one.metadata["Name"].lower())
    parts = [own_copyright() + _OTHERS, *("\n\n".join(_about(one)) for one in others)]
    return f"\n\n{'-' * 78}\n\n".join(parts) + "\n"


def _about(one: Distribution) -> Iterator[str]:
    metadata = one.metadata
    urls = [text.partition(", ")[2] for text in metadata.get_all("Project-URL") or ()]
    source = [*(metadata.get_all("Home-page") or ()), *urls][0]
    stated = [metadata.get_all(name) or [] for name in ("License-Expression", "License")]
    classes = [text for text in metadata.get_all("Classifier") or () if "License ::" in text]
    licenses = [*stated[0], *stated[1], *(text.split(" :: ")[-1] for text in classes)][0]
    yield f"{metadata['Name']} {one.version}\nSource: {source}\nLicense: {licenses}"
    for name in metadata.get_all("License-File") or ():
        texts = [one.read_text(folder + name) for folder in ("licenses/", "")]
        text = next((text for text in texts if text is not None), None)
        if text is None:
            raise FileNotFoundError(f"{metadata['Name']}: no license file {name}")
        yield _shortened(text).strip("\n")


def _shortened(text: str) -> str:
    """Replace the text of a license that every Debian system has with its path."""
    match = _LICENSE_TEXT.search(text)
    if match is None:
        return text
    common = _COMMON[match[1], match[2]]
    return f"{text[: match.start()]}See /usr/share/common-licenses/{common}."
