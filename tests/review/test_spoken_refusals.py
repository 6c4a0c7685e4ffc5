"""What the station refuses comes in the language of the page, and no sentence that a page can meet is forgotten."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pytest

import marrowscope.review
from marrowscope.report.strings import load_strings
from marrowscope.review.accounts import ROLES, Permission
from marrowscope.review.events import KINDS
from marrowscope.review.spoken_refusals import PREFIX, recognized, refusal
from tests.review.stations import READER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.review.stations import Browser

REVIEW = Path(marrowscope.review.__file__).parent
SAYING = (
    "accounts.py", "decisions.py", "guard.py", "server.py", "sign.py", "single_sign_on.py", "station.py", "store.py",
    *sorted(f"routes/{path.name}" for path in (REVIEW / "routes").glob("*.py")),
)  # fmt: skip
"""Modules whose sentences reach a browser."""

NOBODY_MEETS = (
    "found a decision of kind",  # no page sends what these refuse: somebody else's program does
    "found parts ",
    "found a part ",
    "found cells 3, expected",
    "found number of smears 3, expected",
    "found about ",
    "found 3, expected 3; nothing",
    "found 3 with 3, expected an object",
    "found field 3, expected a field of this patient that could be read",
    "found a request for host",
    "found a request without length",
    "found a form of too many fields",
    "the log has 3",
    "patient 3, slide 3: 3",
)
VALUE = "3"


def said_in(path: Path) -> Iterator[str]:
    """Give the sentences that a module makes, with VALUE for what stands in them."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            if node.targets[0].id in {"message", "sentence"}:
                yield from filter(None, [words(node.value)])
        elif isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name == "_refuse" and isinstance(node.func, ast.Name):
                found, expected = (words(item) or VALUE for item in node.args)
                yield f"found {found}, expected {expected}; nothing was recorded"
            elif name.endswith("Error") or name in {"_said", "__init__"}:
                yield from (text for item in node.args if (text := words(item)) and " " in text)
        elif isinstance(node, ast.Return) and path.name == "store.py" and " " in (text := words(node.value) or ""):
            yield text


def words(node: ast.expr | None) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        parts = (part.value if isinstance(part, ast.Constant) else VALUE for part in node.values)
        return "".join(str(part) for part in parts)
    return None


SENTENCES = sorted({(name, text) for name in SAYING for text in said_in(REVIEW / name)})
NEEDED = [(name, text) for name, text in SENTENCES if not text.startswith(NOBODY_MEETS)]


def test_the_sentences_are_found() -> None:
    assert len(NEEDED) > 70
    assert all(any(text.startswith(start) for _, text in SENTENCES) for start in NOBODY_MEETS)


@pytest.mark.parametrize("text", sorted({text for _, text in NEEDED}))
def test_a_sentence_has_its_translation(text: str) -> None:
    filled = text.replace("found 3, expected none before", "found decisions, expected none before")
    filled = filled.replace("found 3, expected one audit of", "found 2 looks spent, expected one audit of")
    assert recognized(filled) is not None, f"add {text!r} to the catalog under refusal.*, or to NOBODY_MEETS"
    translated = refusal(filled, "zh")
    assert any("\u4e00" <= letter <= "\u9fff" for letter in translated)
    assert refusal(filled, "en") == filled


def test_every_translation_is_of_a_sentence_that_is_said() -> None:
    known = {found[0] for name in (*SAYING, "routes/served_images.py") for text in said_in(REVIEW / name)
             if (found := recognized(text))}  # fmt: skip
    known |= {f"{PREFIX}{key}" for key in ("audit_spent", "audit_second", "assign_decisions", "assign_audit")}
    known |= {f"{PREFIX}{key}" for key in ("image_not_found", "image_changed", "image_unreadable", "run_files")}
    assert {key for key in load_strings("en").texts if key.startswith(PREFIX)} - known == set()


def test_values_and_counts_stand_in_the_translation() -> None:
    sentence = (
        "patient 'P1': found 12 cells without a name, expected 50 or more to draw from; name them all and confirm a "
        "full review instead"
    )
    translated = refusal(sentence, "zh")
    assert translated.startswith("患者 P1")
    assert "只有 12 个未命名的细胞" in translated
    assert "至少需要 50 个" in translated
    assert refusal("what nobody translated", "zh") == "what nobody translated"


REMOVED = (
    "found cell 'c1', which is removed (delete), expected a cell that is there; restore it first; nothing was recorded"
)


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("dee (auditor, reader) may not do this: it needs the permission to decide", ("审计者、阅片者", "判定细胞")),
        (
            "bo recorded something about this patient meanwhile (audit_drawn); look at it, then try again",
            ("抽取随机抽查",),
        ),
        (REMOVED, ("c1", "已删除")),
        ("found no answer, expected some text; nothing was recorded", ("没有填写答复",)),
    ],
)
def test_keys_in_a_refusal_come_as_words(sentence: str, words: tuple[str, ...]) -> None:
    translated = refusal(sentence, "zh")
    assert all(word in translated for word in words), translated
    assert not {"auditor", "decide", "audit_drawn", "delete", "answer"} & set(re.findall(r"[a-z_]+", translated))


@pytest.mark.parametrize("kind", KINDS)
def test_an_english_refusal_names_the_kind_of_an_event_in_words(kind: str) -> None:
    words = load_strings("en").texts[f"review.kind_of.{kind}"]
    said = refusal(f"bo recorded something about this patient meanwhile ({kind}); look at it, then try again", "en")
    assert said == f"bo recorded something about this patient meanwhile ({words}); look at it, then try again"
    assert "_" not in said


def test_every_key_that_a_refusal_can_hold_has_words() -> None:
    texts = load_strings("zh").texts
    needed = [f"review.kind_of.{kind}" for kind in KINDS] + [f"review.role.{role}" for role in ROLES]
    needed += [f"refused.permission.{permission}" for permission in get_args(Permission)]
    needed += [f"review.removed.{kind}" for kind in ("not_a_cell", "delete", "split", "merge")]
    assert [key for key in needed if key not in texts] == []


def test_no_page_of_the_station_puts_a_number_that_may_be_one_before_a_plural() -> None:
    never_one = {"review.n_chosen", "review.told.codes", "review.audit.few", "review.audit.look_done"}
    plural = re.compile(r"(?<!of )\{(?:n|x|fewest)\} [a-z]+s\b")
    texts = {key: text for key, text in load_strings("en").texts.items() if key.startswith("review.")}
    assert {key for key, text in texts.items() if plural.search(text)} == never_one


def test_a_chinese_page_is_refused_in_chinese(browser: Browser) -> None:
    event = {"kind": "restore", "cell_id": browser.json("/api/patients/P1/cells")["cell_id"][0]}
    assert browser.decide("P1", event).json()["error"].endswith("expected a removed cell; nothing was recorded")
    browser.client.cookies.set("marrowscope_language", "zh")
    unknown = browser.decide("P1", event | {"kind": "relabel", "new": "Q9"}).json()["error"]
    assert unknown.startswith("代码 Q9 不在编码表中")
    refused = browser.decide("P1", event)
    assert refused.status_code == 400
    assert refused.json()["error"].endswith("未作记录")
    state = browser.json("/api/patients/P1/cells")
    lacking = browser.post("/api/patients/P1/sign", {"base": state["sequence"]})
    assert lacking.json()["error"].startswith("患者 P1 不能签发")
    assert "cell" not in lacking.json()["error"]
    assert READER not in lacking.json()["error"]
    browser.csrf = "another"
    assert "X-CSRF-Token" in browser.decide("P1", event, base=0).json()["error"]  # by which a page knows to ask again
