"""krew's manifest of the plugin (https://krew.sigs.k8s.io/docs/developer-guide/plugin-manifest/), filled in.

`krew-manifest.yaml` says REPOSITORY for the GitHub repository and has zeros for the archives' checksums, which are not
known before the archives are; `.krew.yaml` is the same for krew-release-bot, which fills it in itself. The repository
is the one of pyproject.toml's project.urls, or where that names none, the one that the release is made in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from release.archives import sha256
from release.platforms import PLATFORMS, VERSION, ReleaseError

ROOT = Path(__file__).parent.parent
MANIFEST = ROOT / "krew-manifest.yaml"
BOT_TEMPLATE = ROOT / ".krew.yaml"
PROJECT = ROOT / "pyproject.toml"
REPOSITORY = "REPOSITORY"
NO_SUM = "0" * 64


def repository(project: str, made_in: str) -> str:
    """The repository of a release, owner/name on GitHub.

    Args:
        project: pyproject.toml.
        made_in: where the release is made.

    Raises:
        ReleaseError: the project names another.
    """
    _, _, urls = project.partition("\n[project.urls]\n")
    named = re.search(r'= "https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?[/"]', urls.partition("\n[")[0])
    if named and named[1] != made_in:
        raise ReleaseError(f"pyproject.toml names {named[1]}, and the release is made in {made_in}")
    return made_in


def filled(text: str, sums: Mapping[str, str], source: str) -> str:
    """The manifest with the checksums of archives, and the repository that they can be fetched from.

    Args:
        text: krew-manifest.yaml.
        sums: an archive's name -> its SHA-256. An archive that is not named keeps its zeros.
        source: the repository, owner/name on GitHub.

    Raises:
        ReleaseError: the manifest is of another version, or names an archive otherwise than this program.
    """
    manifest: dict[str, Any] = yaml.safe_load(text)
    if manifest["spec"]["version"] != VERSION:
        raise ReleaseError(f"krew-manifest.yaml says {manifest['spec']['version']}, and this is {VERSION}")
    known = {platform.archive for platform in PLATFORMS}
    lines = []
    archive = ""
    for line in text.splitlines():
        if "uri:" in line:
            archive = line.rpartition("/")[2].strip()
            if archive not in known:
                raise ReleaseError(f"krew-manifest.yaml names {archive}, which is none of {', '.join(sorted(known))}")
        elif "sha256:" in line:
            line = line.replace(NO_SUM, sums.get(archive, NO_SUM))
        lines.append(line.replace(REPOSITORY, source))
    return "\n".join(lines) + "\n"


def sums_in(folder: Path) -> dict[str, str]:
    """The SHA-256 of each platform's archive that is in a folder."""
    return {p.archive: sha256(folder / p.archive) for p in PLATFORMS if (folder / p.archive).exists()}


def checksums(folder: Path) -> str:
    """SHA256SUMS, as `sha256sum --check` reads it: every file of the folder but itself."""
    files = sorted(file for file in folder.iterdir() if file.is_file() and file.name != "SHA256SUMS")
    return "".join(f"{sha256(file)}  {file.name}\n" for file in files)
