"""A hook of mkdocs: the Markdown pages of the whole repository become pages of the site, at their own paths.

So a link between two pages works in a checkout, on a code host and on the site alike. A link to a folder leads to its
README.
"""

from __future__ import annotations

import re
import sys
from os.path import normpath
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a hook sees the packages of mkdocs only

from compiler.support.palette import style  # noqa: E402

FOLDERS = ("docs", "compiler", "examples", "benchmarks")
SITE_STYLE = ROOT / "docs" / "site.css"
COURSE = ROOT / "docs" / "course"
EQUATION = re.compile(r"\$\$(?P<block>[^$]+)\$\$|\$(?P<inline>[^$\n]+)\$")
LINK = re.compile(r"(?<=\]\()([^):#\s]+)(?=[#)])")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace the pages of `docs_dir` by those of the repository, with the other files to which they link."""
    theirs = [file for file in files if not file.src_uri.startswith("assets/") and file.generated_by is None]
    for file in theirs:
        if (ROOT / "docs" / file.src_uri).exists():
            files.remove(file)
    pages = [*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))]
    linked = {
        path for page in pages for link in LINK.findall(page.read_text()) if (path := _target(page, link)).is_file()
    }
    look = style('[data-md-color-scheme="default"]', '[data-md-color-scheme="slate"]')
    files.append(File.generated(config, "assets/dlc.css", content=look + SITE_STYLE.read_text()))
    for path in sorted({*pages, *linked}):
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page with links to folders changed into links to their README, and a course's equations into MathML."""
    source = ROOT / page.file.src_uri
    if source.is_relative_to(COURSE):
        markdown = EQUATION.sub(_mathml, markdown)

    def readme(link: re.Match[str]) -> str:
        target = _target(source, link[0])
        return f"{link[0].rstrip('/')}/README.md" if (target / "README.md").is_file() else link[0]

    return LINK.sub(readme, markdown)


def _mathml(equation: re.Match[str]) -> str:
    """LaTeX between dollars as MathML, which a browser shows without scripts."""
    is_block = equation["block"] is not None
    shown = convert(equation["block"] or equation["inline"], display="block" if is_block else "inline")
    return f'\n<div class="equation">{shown}</div>\n' if is_block else shown


def _target(page: Path, link: str) -> Path:
    return Path(normpath(page.parent / link))
