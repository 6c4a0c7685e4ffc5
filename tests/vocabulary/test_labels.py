"""Coarse labels: what each says about a cell, its stored form, and every way it can be wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marrowscope.errors import VocabularyError
from marrowscope.vocabulary import CoarseLabel, is_coarse, load_mapping, load_vocabulary
from marrowscope.vocabulary.labels import parse_coarse

VOCABULARY = load_vocabulary()
BLAST = "BLA{N,M,J,L; mainly N; cblc yes; countable yes}"


def test_a_raw_code_says_its_own_facts() -> None:
    for code in VOCABULARY.codes.values():
        label = VOCABULARY.read_label(code.code)
        assert (label.codes, label.cblc, label.countable) == ((code,), code.cblc, code.countable)
        assert (label.categories, label.mainly, label.is_coarse) == ((code.category,), None, False)


def test_a_blast_without_lineage_is_cblc_by_declaration() -> None:
    label = VOCABULARY.read_label(BLAST)
    assert label.categories == ("N", "M", "Other", "L")  # the megakaryoblast J is of category Other
    assert (label.cblc, label.countable, label.mainly, label.is_coarse) == (True, True, "N", True)
    assert label.short == "BLA{N,M,J,L}"


@pytest.mark.parametrize(
    ("text", "cblc", "countable"),
    [
        ("IG{N1,N2,N3}", None, True),  # a promyelocyte is CBLC, the others are not; all are countable
        ("LYI{L,L1,L3}", False, True),  # all share both
        ("ERB{R1,R2}", None, True),
        ("X{J,J2}", None, None),  # a megakaryoblast is countable, a megakaryocyte is not
        ("X{J,J2; cblc yes}", True, True),  # every CBLC is countable
        ("X{J,J2; countable no}", False, False),  # what is not countable is no CBLC
        ("X{J,J2; countable yes}", None, True),
        ("ERB{R1,R2; cblc no}", False, True),
    ],
)
def test_a_fact_is_shared_or_declared_or_undecided(text: str, *, cblc: bool | None, countable: bool | None) -> None:
    label = VOCABULARY.read_label(text)
    assert (label.cblc, label.countable) == (cblc, countable)


def test_a_set_of_one_code_says_what_the_code_says() -> None:
    code, coarse = VOCABULARY.read_label("M1"), VOCABULARY.read_label("PM{M1}")
    assert (coarse.codes, coarse.cblc, coarse.countable) == (code.codes, code.cblc, code.countable)
    assert not coarse.is_coarse


FLAGS = st.sampled_from([None, True, False])
CODES = st.lists(st.sampled_from(sorted(VOCABULARY.codes)), min_size=1, max_size=6, unique=True)
NAMES = st.text(st.characters(blacklist_characters="{};,", blacklist_categories=("Cs", "Cc")), min_size=1).filter(
    lambda name: name == name.strip() and name != ""
)


@given(name=NAMES, codes=CODES, cblc=FLAGS, countable=FLAGS, leads=st.booleans())
def test_the_stored_form_reads_back_and_is_no_code(
    *, name: str, codes: list[str], cblc: bool | None, countable: bool | None, leads: bool
) -> None:
    label = CoarseLabel(name, tuple(codes), cblc, countable, codes[-1] if leads else None)
    assert parse_coarse(label.text) == label
    assert is_coarse(label.text)
    assert label.text not in VOCABULARY.codes


@given(CODES)
def test_no_fact_is_known_that_a_code_of_the_set_contradicts(codes: list[str]) -> None:
    label = VOCABULARY.read_label(CoarseLabel("X", tuple(codes)).text)
    for name in ("cblc", "countable"):
        values = {getattr(VOCABULARY.codes[code], name) for code in codes}
        known = getattr(label, name)
        assert (known is None) == (len(values) == 2) or (known is not None and known in values)
        if known is not None:
            assert values == {known}


def test_spaces_do_not_matter() -> None:
    assert VOCABULARY.read_label(" BLA { N, M ,J,L ;mainly  N; cblc yes;countable yes} ").text == BLAST


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("BLA{N,M", "no name and one pair of braces"),
        ("{N,M}", "no name and one pair of braces"),
        ("BLA{N}{M}", "no name and one pair of braces"),
        ("BLA{N,M; maybe N}", r"the part 'maybe N'"),
        ("BLA{N,M; cblc maybe}", r"the part 'cblc maybe'"),
        ("BLA{N,M; cblc yes; cblc no}", r"the part 'cblc no'"),
        ("BLA{N,M7}", r"found label 'M7', expected a code of vocabulary marrow-37"),
        ("BLA{}", "an empty set of codes, expected at least one code"),
        ("BLA{N,N}", "the codes N, N, expected each code once"),
        ("BLA{N,M; mainly L}", "mainly L, expected one of its codes N, M"),
        ("LYI{L,L1; cblc yes}", "cblc yes declared, expected what at least one of the codes L, L1 is"),
        ("X{J,J2; cblc yes; countable no}", "cblc yes and countable no declared"),
    ],
)
def test_a_label_that_cannot_be_is_one_sentence_with_its_place(text: str, message: str) -> None:
    with pytest.raises(VocabularyError, match=message) as caught:
        VOCABULARY.read_label(text, "p1/f1.json", 3)
    assert str(caught.value).startswith("p1/f1.json, shape 3")
    assert len(str(caught.value).splitlines()) == 1


def test_the_shipped_blast_is_the_declared_one() -> None:
    assert load_mapping("munich-marrow-21").translate("BLA", "f.json") == BLAST
    assert load_mapping("marrow-cells").translate("N", "f.json") == BLAST
    assert load_mapping("marrow-cells").translate("N1", "f.json") == "N1"
