"""Links, anchors and paths in the documentation lead somewhere; the client's public names are described."""

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"(?ms)^ *(```+|~~~+).*?^ *\1")
CODE = re.compile(r"`+[^`\n]+`+")
LINK = re.compile(r"\]\(\s*<?([^()\s>]+)>?(?:\s+[\"'][^)]*)?\)|^ *\[[^\]]+\]: *(\S+)", re.MULTILINE)
HEADING = re.compile(r"^ {0,3}#{1,6} +(.+?) *#*$", re.MULTILINE)
ANCHOR = re.compile(r"<\w+ [^>]*\b(?:id|name)=[\"']([^\"']+)")
# What looks like a path of this repository, in code: `client/settings.py`, `tests/k8s/`; not `client/*` or `train/<x>`.
PATH = re.compile(r"`((?:benchmarks|client|docs|k8s|serving|tests|tools|train)/[\w./-]*)`")
HISTORY = ("CHANGELOG.md",)  # tells of files that are gone
EXAMPLES = ("k8s/overlays/mine",)  # a reader's own

FOLDERS = (".github", "benchmarks", "client", "docs", "k8s", "serving", "tests", "tools", "train")
FOUND = [*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))]
MADE = {"build", "node_modules"}  # by tools, not by us
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in FOUND if MADE.isdisjoint(path.relative_to(ROOT).parts))


@cache
def text_of(page: Path) -> str:
    """A page without its fenced code."""
    return FENCE.sub("", page.read_text())


@cache
def anchors_of(page: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them of its headings."""
    found: Counter[str] = Counter()
    anchors = set(ANCHOR.findall(text_of(page)))
    for heading in HEADING.findall(text_of(page)):
        shown = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", shown.strip().lower()).replace(" ", "-")
        anchors.add(f"{slug}-{found[slug]}" if found[slug] else slug)
        found[slug] += 1
    return anchors


def broken_links(page: Path, root: Path = ROOT) -> list[str]:
    """The relative links of `page` that lead nowhere, or out of the repository."""
    broken = []
    for match in LINK.finditer(CODE.sub("", text_of(page))):
        link = match[1] or match[2]
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        target = (page.parent / path).resolve() if path else page
        missing = not target.exists() or not target.is_relative_to(root)
        if missing or (anchor and target.suffix == ".md" and anchor not in anchors_of(target)):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings_that_are_there(page):
    assert broken_links(ROOT / page) == []


@pytest.mark.parametrize("page", [page for page in PAGES if page not in HISTORY])
def test_paths_that_are_named_are_there(page):
    named = set(PATH.findall(text_of(ROOT / page))) - set(EXAMPLES)
    assert sorted(path for path in named if not (ROOT / path).exists()) == []


def test_a_broken_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A `b`: c!\n[x](#a-b-c) [y](#nowhere) [z](gone.md) `[code](gone.md)`\n```\n[f](gone.md)\n```\n")
    assert broken_links(page, tmp_path) == ["#nowhere", "gone.md"]


# The client's public names, read without importing them.


def definitions(module: Path) -> dict[str, ast.AST]:
    """What a package's `__all__` names, each with its definition."""
    tree = ast.parse(module.read_text())
    names = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    sources = {
        alias.asname or alias.name: (node.module or "", alias.name)
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    return {name: definition(module.parent, *sources[name]) for name in names}


def definition(folder: Path, module: str, name: str) -> ast.AST:
    """The class or function `name` of the module `module` (dotted, relative to `folder`)."""
    path = folder.joinpath(*module.split("."))
    path = path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__init__.py"
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, kinds) and node.name == name:
            return node
    raise AssertionError(f"{path} defines no class or function {name}")


def without_docstring(name: str, node: ast.AST) -> list[str]:
    """`name` and its public methods, as far as they have no docstring."""
    lacking = [] if ast.get_docstring(node) else [name]
    for member in getattr(node, "body", []):
        if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef) and not member.name.startswith("_"):
            lacking += without_docstring(f"{name}.{member.name}", member) if isinstance(node, ast.ClassDef) else []
    return lacking


PACKAGES = {
    "inkling.client": ROOT / "client" / "__init__.py",
    "inkling.client.reading": ROOT / "client" / "reading" / "__init__.py",
}

MODULES = {"inkling.client.errors"}  # whose own text is a part of its page


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_and_method_has_a_docstring(package):
    found = definitions(PACKAGES[package])
    assert [lack for name, node in found.items() for lack in without_docstring(name, node)] == []


def test_the_api_pages_have_every_public_name_once():
    pages = "\n".join(page.read_text() for page in (ROOT / "docs" / "api").glob("*.md"))
    described = Counter(re.findall(r"^::: (\S+)", pages, re.MULTILINE))
    public = {f"{package}.{name}" for package, path in PACKAGES.items() for name in definitions(path)}
    assert set(described) - MODULES == public
    assert [name for name, times in described.items() if times > 1] == []


def test_the_hooks_of_commits_have_the_versions_of_the_lock():
    locked = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line)
    hooks = re.findall(r"\[([\w-]+)==([\d.]+)\]", (ROOT / ".pre-commit-config.yaml").read_text())
    assert [hook for hook in hooks if locked.get(hook[0], hook[1]) != hook[1]] == []
