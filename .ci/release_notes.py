"""The tag of a release to its text: the section of CHANGELOG.md that has the version of pyproject.toml.

    python .ci/release_notes.py v1.2.3

prints the section. It fails where the tag is not the version of pyproject.toml, and where the changelog has no such
section.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def release_notes(tag: str, pyproject: str, changelog: str) -> str:
    """The text below the version's heading, without the heading. Raises ValueError with a message for the releaser."""
    version = tomllib.loads(pyproject)["project"]["version"]
    if tag != f"v{version}":
        raise ValueError(f"the tag is {tag}, but pyproject.toml has version {version}: the tag must be v{version}")
    sections = re.split(r"^## ", changelog, flags=re.MULTILINE)[1:]
    for section in sections:
        heading, _, text = section.partition("\n")
        if re.fullmatch(rf"\[{re.escape(version)}\] - \d{{4}}-\d{{2}}-\d{{2}}", heading.strip()):
            # Definitions of links stand behind the last section.
            text = re.sub(r"^\[[^\]]+\]: .*$", "", text, flags=re.MULTILINE).strip()
            if text:
                return text + "\n"
            raise ValueError(f"the section [{version}] of CHANGELOG.md is empty")
    raise ValueError(f"CHANGELOG.md has no section `## [{version}] - YYYY-MM-DD`: rename [Unreleased]")


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: python .ci/release_notes.py TAG", file=sys.stderr)
        return 2
    try:
        notes = release_notes(sys.argv[1], (ROOT / "pyproject.toml").read_text(), (ROOT / "CHANGELOG.md").read_text())
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(notes, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
