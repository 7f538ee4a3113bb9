"""A hook of MkDocs (mkdocs.yml): pages that lie outside docs/ take part in the site, and links keep their meaning.

In the repository a link is a path from file to file, also out of docs/ and into it. On the site the pages of `EXTRA`
stand at the same path below the site's root; a link to any other file of the repository, which the site does not have,
becomes plain text. `tests/docs` holds all links against the repository itself.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
EXTRA = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "k8s/README.md")
LINK_OR_CODE = re.compile(
    r"(?ms)^ *(?P<fence>```+|~~~+).*?^ *(?P=fence)|`[^`]+`"  # code comes first: what is in it is no link
    r"|(?<!!)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^()\s]+)\)"
)


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Add the pages from outside."""
    for path in EXTRA:
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, files: Files, **_: Any) -> str:
    """Turn the links of one page from paths of the repository into paths of the site."""
    here = page.file.src_uri
    folder = posixpath.dirname(here if here in EXTRA else f"docs/{here}")

    def mended(link: re.Match[str]) -> str:
        path, _, anchor = (link["target"] or "").partition("#")
        if not path or "://" in path or path.startswith("mailto:"):
            return link[0]
        target = posixpath.normpath(posixpath.join(folder, path)).removeprefix("docs/")
        if files.get_file_from_path(target) is None:
            return link["text"]
        relative = posixpath.relpath(target, posixpath.dirname(here) or ".")
        return f"[{link['text']}]({relative}{'#' + anchor if anchor else ''})"

    return LINK_OR_CODE.sub(mended, markdown)
