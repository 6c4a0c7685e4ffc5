"""The documents are true: links lead somewhere, commands parse, examples run, lists are complete."""

from __future__ import annotations

import importlib.util
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer

import marrowscope
from marrowscope.cli.main import app

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}
README = TEXTS[ROOT / "README.md"]
_SPEC = importlib.util.spec_from_file_location("module_map", ROOT / ".ci" / "module_map.py")
assert _SPEC is not None
assert _SPEC.loader is not None
MODULE_MAP = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(MODULE_MAP)
SAME_NAME_SAME_THING = {"bundle"}
"""A package and the module in it that holds what the package is named after."""
LOG = ROOT / "docs" / "log"
LOG_TOPICS = [page for page in PAGES if page.parent == LOG and page.name != "index.md"]


def blocks(text: str, language: str) -> list[str]:
    """Give the fenced code blocks of exactly this info string."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def pages_with(language: str) -> list[Path]:
    return [page for page in PAGES if blocks(TEXTS[page], language)]


def targets_of(page: Path) -> list[tuple[str, str]]:
    """Give the links of a page to files of ours, as path (empty: the page itself) and anchor (empty: its top)."""
    links = re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)[^)]*\)", TEXTS[page])
    return [(path, anchor) for path, anchor in links if not re.match(r"https?:|mailto:", path)]


def anchors_of(page: Path) -> list[str]:
    """Give the anchors that GitHub makes of a page's headings."""
    prose = re.sub(r"^```.*?^```$", "", TEXTS[page], flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", re.sub(r"\]\([^)]*\)", "]", prose), flags=re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles]


def command_words() -> set[tuple[str, ...]]:
    """Give every command as its words after ``marrowscope``."""

    def walk(command: object, path: tuple[str, ...]) -> set[tuple[str, ...]]:
        if not isinstance(command, typer.core.TyperGroup):
            return {path}
        return set().union(*(walk(child, (*path, name)) for name, child in command.commands.items()))

    return walk(typer.main.get_command(app), ())


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files(page: Path) -> None:
    missing = [path for path, _ in targets_of(page) if not (page.parent / path).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_headings(page: Path) -> None:
    missing = [
        f"{path}#{anchor}"
        for path, anchor in targets_of(page)
        if anchor and anchor not in anchors_of((page.parent / path).resolve() if path else page)
    ]
    assert missing == []


@pytest.mark.parametrize("folder", [ROOT / "docs", LOG], ids=name_of)
def test_every_page_is_reached_from_the_index(folder: Path) -> None:
    reached = {path for path, _ in targets_of(folder / "index.md")}
    unreached = [page.name for page in folder.glob("*.md") if page.name not in reached]
    assert unreached == ["index.md"]


def test_the_index_reaches_the_log() -> None:
    assert ("log/index.md", "") in targets_of(ROOT / "docs" / "index.md")


@pytest.mark.parametrize("page", LOG_TOPICS, ids=name_of)
def test_every_entry_of_the_log_stands_in_its_index(page: Path) -> None:
    _title, *entries = anchors_of(page)
    assert entries
    assert [anchor for path, anchor in targets_of(LOG / "index.md") if path == page.name and anchor] == entries


@pytest.mark.parametrize("page", LOG_TOPICS, ids=name_of)
def test_every_entry_of_the_log_has_its_five_parts(page: Path) -> None:
    for entry in TEXTS[page].split("\n## ")[1:]:
        parts = re.findall(r"^\*\*(\w+):\*\* ", entry, flags=re.MULTILINE)
        optional = {"Command", "Data"}  # of a survey there may be no command, of a timing no data
        expected = [
            part for part in ("Date", "Command", "Data", "Result", "Verdict") if part in parts or part not in optional
        ]
        assert parts == expected, entry.splitlines()[0]
        assert "**Machine:**" in entry, entry.splitlines()[0]


def test_readme_has_exactly_two_commands_that_set_everything_up() -> None:
    commands = blocks(README, "sh")
    assert len(commands) == 2
    for command, goal in zip(commands, ("marrowscope demo", "pytest"), strict=True):
        assert len(command.splitlines()) == 1
        assert command.startswith("python3 -m pip install ")
        assert goal in command


def test_what_the_readmes_test_command_leaves_out_is_run_by_ci() -> None:
    assert blocks(README, "sh")[1].rstrip().endswith('-m "not apart"')
    assert "pytest -n auto -m apart\n" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_readme_file_map_names_every_room_and_nothing_else() -> None:
    (listing,) = blocks(README, "text")
    lines = listing.splitlines()
    assert lines[0] == "src/marrowscope/"
    listed = [line.split()[0].removesuffix("/") for line in lines if line.startswith("  ")]
    rooms = [path.name for path in (ROOT / "src" / "marrowscope").iterdir() if path.suffix == ".py" or path.is_dir()]
    wanted = sorted(name for name in rooms if name not in {"__init__.py", "__pycache__"})
    assert sorted(listed) == wanted
    assert len([name for name in wanted if name != "data"]) <= 32
    others = [line.split()[0] for line in lines[1:] if not line.startswith("  ")]
    assert [entry for entry in others if not (ROOT / entry).is_dir()] == []


def test_architecture_page_has_every_module_with_its_sentence() -> None:
    """`python .ci/module_map.py --write` brings it up to date."""
    assert MODULE_MAP.written_map() == MODULE_MAP.module_map()
    assert all(not line.endswith(": ") for line in MODULE_MAP.module_map().splitlines())


def test_no_two_modules_that_do_different_things_have_one_name() -> None:
    """But for the command line, whose modules are named as the commands, and a package's config."""
    paths = [path.relative_to(ROOT / "src" / "marrowscope") for path in (ROOT / "src" / "marrowscope").rglob("*.py")]
    names = [path.stem for path in paths if path.parts[0] != "cli" and path.stem not in {"__init__", "config"}]
    names += [path.name for path in (ROOT / "src" / "marrowscope").iterdir() if path.is_dir()]
    same = {name for name in names if names.count(name) > 1}
    assert same <= SAME_NAME_SAME_THING


def test_tests_mirror_the_tree() -> None:
    """Each test file stands in the folder of the room it tests; ``review/pages`` tests what a browser gets."""
    rooms = {
        path.relative_to(ROOT / "src" / "marrowscope")
        for path in (ROOT / "src" / "marrowscope").rglob("*")
        if path.is_dir()
    }
    folders = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    assert sorted(str(folder) for folder in folders - rooms - {Path(), Path("benchmarks"), Path("review/pages")}) == []


@pytest.mark.parametrize("words", sorted(command_words()), ids=" ".join)
def test_every_command_is_documented(words: tuple[str, ...]) -> None:
    command = "marrowscope " + " ".join(words)
    assert any(re.search(rf"{re.escape(command)}\b", text) for page, text in TEXTS.items() if page.parent != ROOT)


@pytest.mark.parametrize("page", pages_with("console"), ids=name_of)
def test_console_examples_parse(page: Path) -> None:
    lines = [line for block in blocks(TEXTS[page], "console") for line in block.replace("\\\n", " ").splitlines()]
    for line in lines:
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if words[:1] != ["marrowscope"] or "--help" in words:
            continue
        command, rest = typer.main.get_command(app), words[1:]
        while isinstance(command, typer.core.TyperGroup) and rest:
            default = getattr(command, "default_command", None)
            if rest[0] not in command.commands and default is None:
                break
            if rest[0] not in command.commands:
                rest = [str(default), *rest]
            command, rest = command.commands[rest[0]], rest[1:]
        assert not isinstance(command, typer.core.TyperGroup), f"{line}: no such command"
        command.make_context(line, rest)


@pytest.mark.parametrize("page", pages_with("python"), ids=name_of)
def test_python_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a page's ```python blocks in order, as one program, in an empty folder; ```py blocks are only shown."""
    monkeypatch.chdir(tmp_path)
    program = "\n".join(blocks(TEXTS[page], "python"))
    exec(compile(program, name_of(page), "exec"), {"__name__": "__example__"})  # noqa: S102 - our own documentation


def test_every_public_name_stands_on_the_interface_page() -> None:
    page = TEXTS[ROOT / "docs" / "api.md"]
    assert [name for name in marrowscope.__all__ if f"`{name}`" not in page] == []


def test_dependencies_page_lists_what_is_declared() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = {
        "Base": declared["project"]["dependencies"],
        "Extra `train`": declared["project"]["optional-dependencies"]["train"],
        "Extra `pdf`": declared["project"]["optional-dependencies"]["pdf"],
        "Extra `wsi`": declared["project"]["optional-dependencies"]["wsi"],
        "Extra `cluster`": declared["project"]["optional-dependencies"]["cluster"],
        "Extra `store`": declared["project"]["optional-dependencies"]["store"],
        "Extra `review`": declared["project"]["optional-dependencies"]["review"],
        "Extra `oidc`": declared["project"]["optional-dependencies"]["oidc"],
        "Group `dev`": declared["dependency-groups"]["dev"],
    }
    page = TEXTS[ROOT / "docs" / "dependencies.md"]
    for title, requirements in groups.items():
        section = page.split(f"## {title}")[1].split("\n## ")[0]
        listed = re.findall(r"^\| ([a-z0-9-]+) \|", section, flags=re.MULTILINE)[1:]
        wanted = [re.split(r"[^a-z0-9-]", requirement)[0] for requirement in requirements]
        assert sorted(listed) == sorted(wanted), title


def test_the_dev_group_and_the_base_hold_no_training_package() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    training = {re.split(r"[^a-z0-9-]", item)[0] for item in declared["project"]["optional-dependencies"]["train"]}
    for requirement in [*declared["project"]["dependencies"], *declared["dependency-groups"]["dev"]]:
        assert re.split(r"[^a-z0-9-]", requirement)[0] not in training


def test_every_release_says_what_can_alter_a_prediction() -> None:
    releases = TEXTS[ROOT / "CHANGELOG.md"].split("\n## ")[1:]
    assert releases
    for release in releases:
        assert "### Changes that can alter a prediction" in release, release.splitlines()[0]


def test_citation_has_the_version_of_the_package() -> None:
    assert f"\nversion: {marrowscope.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_the_research_use_is_stated(page: str) -> None:
    assert "does not diagnose" in " ".join(TEXTS[ROOT / page].split())


def test_every_picture_is_shown_with_words_and_none_is_in_the_wheel() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"]
    assert wheel["wheel"] == {"packages": ["src/marrowscope"]}
    pictures = sorted((ROOT / "docs" / "images").iterdir())
    for picture in pictures:
        shown = [alt for text in TEXTS.values() for alt in re.findall(rf"!\[([^\]]*)\]\([^)]*{picture.name}\)", text)]
        assert shown, f"no page shows {picture.name}"
        assert all(len(alt.split()) > 5 for alt in shown), f"{picture.name}: words for who does not see it"
    assert all(path.stat().st_size < 120_000 for path in pictures if path.name.startswith("review-"))
