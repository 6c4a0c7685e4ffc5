"""The raw codes against the published definition, and every way a vocabulary file can be broken."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from marrowscope.errors import VocabularyError
from marrowscope.vocabulary import (
    DEFAULT_REFERENCE_RANGES,
    DEFAULT_VOCABULARY,
    MAPPINGS_DIR,
    Vocabulary,
    load_mapping,
    load_reference_ranges,
    load_vocabulary,
    mapping_names,
    nearest,
)

Broken = Callable[[str, str], Path]

CATEGORIES = ("Other", "N", "N1", "N2", "N3", "N4", "N5", "E", "M", "M1", "M2", "R", "R1", "R2", "R3", "L")
CODES_OF_CATEGORY = {
    "Other": "N0 B B1 J J1 J2 J3 J4 P P1 P2 P3 A F V 0",
    "E": "E E1",
    "M": "M M0",
    "L": "L L1 L2 L3 L4",
}
MUNICH_MARROW = "ABE ART BAS BLA EBO EOS FGC HAC KSC LYI LYT MMZ MON MYB NGB NGS NIF OTH PEB PLM PMO"
MUNICH_AML = "BAS EBO EOS KSC LYA LYT MMZ MOB MON MYB MYO NGB NGS PMB PMO"
BARCELONA = "BA BNE EO ERB IG LY MMY MO MY NEUTROPHIL PLATELET PMY SNE"


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return load_vocabulary()


@pytest.fixture
def broken(tmp_path: Path) -> Broken:
    """Give a copy of the shipped vocabulary in which the first ``old`` reads ``new``."""

    def edit(old: str, new: str) -> Path:
        text = DEFAULT_VOCABULARY.read_text(encoding="utf-8")
        assert old in text
        path = tmp_path / "vocabulary.toml"
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        return path

    return edit


def test_sixteen_categories_in_order(vocabulary: Vocabulary) -> None:
    assert vocabulary.categories == CATEGORIES


@pytest.mark.parametrize("category", CATEGORIES)
def test_codes_of_each_category(vocabulary: Vocabulary, category: str) -> None:
    expected = CODES_OF_CATEGORY.get(category, category).split()
    assert sorted(vocabulary.codes_where(category=category)) == sorted(expected)


def test_cblc_is_the_published_set(vocabulary: Vocabulary) -> None:
    assert set(vocabulary.codes_where(cblc=True)) == {"N", "N1", "M", "M1", "R", "R1", "J", "J1"}


def test_not_countable_is_what_stands_outside_of_the_denominator(vocabulary: Vocabulary) -> None:
    assert set(vocabulary.codes_where(countable=False)) == {"J2", "J3", "J4", "A", "F", "V", "0"}


def test_promegakaryocyte_is_countable_and_not_in_the_differential(vocabulary: Vocabulary) -> None:
    assert set(vocabulary.codes_where(countable=True, ndc=False)) == {"J1"}


def test_who_blasts(vocabulary: Vocabulary) -> None:
    assert set(vocabulary.codes_where(who_blast=True)) == {"N", "N0", "M", "M0", "M1", "J"}
    conditional = {code: row.who_blast_if for code, row in vocabulary.codes.items() if row.who_blast_if}
    assert conditional == {"N1": "apl", "R": "pure_erythroid_leukaemia"}


@pytest.mark.parametrize(
    ("group", "codes"),
    [
        ("granulocytic", "N N1 N2 N3 N4 N5"),
        ("eosinophilic", "E E1"),
        ("monocytic", "M0 M M1 M2"),
        ("erythroid", "R R1 R2 R3"),
        ("lymphoid", "L L1 L2 L3 L4"),
        ("other", CODES_OF_CATEGORY["Other"]),
    ],
)
def test_six_paper_groups(vocabulary: Vocabulary, group: str, codes: str) -> None:
    assert set(vocabulary.codes_where(paper_group=group)) == set(codes.split())


def test_lineage_is_biology_not_the_paper_group(vocabulary: Vocabulary) -> None:
    assert vocabulary.lookup("N0").lineage == vocabulary.lookup("E1").lineage == "granulocytic"
    assert vocabulary.lookup("B1").lineage == "mast"
    assert set(vocabulary.codes_where(lineage="megakaryocytic")) == {"J", "J1", "J2", "J3", "J4"}


def test_plasma_cells_are_the_four_codes_of_their_line(vocabulary: Vocabulary) -> None:
    assert vocabulary.codes_where(plasma=True) == ("P", "P1", "P2", "P3")
    other = CATEGORIES.index("Other")
    assert vocabulary.plasma_triples == {(other, False, True)}
    facts = {text: vocabulary.read_label(text).plasma for text in ("P3", "B", "X{P,P2}", "X{A,P2}")}
    assert facts == {"P3": True, "B": False, "X{P,P2}": True, "X{A,P2}": None}


def test_call_triples_are_exactly_those_that_some_code_has(vocabulary: Vocabulary) -> None:
    other, monoblast = CATEGORIES.index("Other"), CATEGORIES.index("M")
    triples = vocabulary.call_triples
    assert [triple for triple in triples if triple[0] == other] == [
        (other, False, False),
        (other, False, True),
        (other, True, True),
    ]
    assert [triple for triple in triples if triple[0] == monoblast] == [
        (monoblast, False, True),
        (monoblast, True, True),
    ]
    assert len(triples) == 16 + 2 + 1
    assert {(vocabulary.category_index(c), r.cblc, r.countable) for c, r in vocabulary.codes.items()} == set(triples)


def test_hash_is_of_the_file_as_it_stands(vocabulary: Vocabulary) -> None:
    assert vocabulary.sha256 == hashlib.sha256(DEFAULT_VOCABULARY.read_bytes()).hexdigest()


def test_vocabulary_is_immutable(vocabulary: Vocabulary) -> None:
    with pytest.raises(TypeError):
        vocabulary.codes["X"] = vocabulary.codes["N"]  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        vocabulary.lookup("N").cblc = False  # type: ignore[misc]


def test_unknown_code_names_file_shape_and_nearest(vocabulary: Vocabulary) -> None:
    with pytest.raises(VocabularyError) as caught:
        vocabulary.lookup("n1 ", "p1/f1.json", 7)
    message = str(caught.value)
    assert message.startswith("p1/f1.json, shape 7: found label 'n1 '")
    assert "the nearest is 'N1'" in message
    assert "marrow-37" in message


def test_unknown_code_without_a_likeness_lists_the_known(vocabulary: Vocabulary) -> None:
    with pytest.raises(VocabularyError, match=r"^found label '§', expected .* \(known are N0, N, N1"):
        vocabulary.lookup("§")


def test_nearest_of_nothing_is_none() -> None:
    assert nearest("N1", ()) is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('code = "N1"', 'code = "N"', r"codes\[2\]: found code 'N' a second time, expected each code once"),
        ('category = "N1"', 'category = "N9"', r"codes\[2\]: found category = 'N9', expected one of Other, N"),
        ('paper_group = "other"', 'paper_group = "x"', r"paper_group = 'x', expected one of granulocytic"),
        ('lineage = "granulocytic"', 'lineage = "x"', r"lineage = 'x', expected one of granulocytic"),
        ('who_blast_if = "apl"', 'who_blast_if = "APL"', r"who_blast_if = 'APL', expected one of apl"),
        ("cblc = false", "cblc = 0", r"codes\[0\]: found cblc = 0, expected true or false"),
        ("countable = true\n", "", r"codes\[0\]: found no key countable"),
        ("countable = true", "countable = true\ncolor = 1", r"found unknown key color"),
        ('name = "macrophage"', 'name = " "', r"found name = ' ', expected a text that is not empty"),
        ("schema_version = 1", "schema_version = 2", r"found schema_version 2, expected 1"),
        ('"R3", "L"]', '"R3", "L", "X"]', r"found no code of category X"),
        ('"R3", "L"]', '"R3", "L", "L"]', r"expected each category once"),
        ("version = 1", "version = ", r"found no readable TOML file"),
        ('version = "2"', "version = 2", r"found version = 2, expected a text that is not empty"),
        ("plasma = true", "plasma = 1", r"found plasma = 1, expected true or false"),
        (
            'paper_group = "granulocytic"\nlineage = "granulocytic"\ncblc = true\ncountable = true',
            'paper_group = "granulocytic"\nlineage = "granulocytic"\ncblc = true\ncountable = false',
            r"found code 'N' with cblc and not countable",
        ),
        (
            'who_blast = false\nwho_blast_if = "apl"',
            'who_blast = true\nwho_blast_if = "apl"',
            r"expected a condition only where who_blast is false",
        ),
    ],
)
def test_broken_vocabulary_says_where_and_why(broken: Broken, old: str, new: str, message: str) -> None:
    with pytest.raises(VocabularyError, match=message):
        load_vocabulary(broken(old, new))


def test_a_vocabulary_nested_too_deeply_is_named(tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.toml"
    path.write_text("a = " + "[" * 5000 + "]" * 5000)
    with pytest.raises(VocabularyError, match=r"vocabulary\.toml: found no readable TOML file"):
        load_vocabulary(path)


def test_a_condition_with_a_line_break_stays_on_one_line(broken: Broken) -> None:
    path = broken("\nconditions = [", '\nconditions = ["a\\nb", ')
    path.write_text(path.read_text(encoding="utf-8").replace('who_blast_if = "', 'who_blast_if = "x'), encoding="utf-8")
    with pytest.raises(VocabularyError, match="who_blast_if") as caught:
        load_vocabulary(path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_vocabulary_of_ones_own_has_its_own_hash(broken: Broken, vocabulary: Vocabulary) -> None:
    own = load_vocabulary(broken('name = "marrow-37"', 'name = "ours"'))
    assert own.name == "ours"
    assert own.sha256 != vocabulary.sha256


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("munich-marrow-21", MUNICH_MARROW),
        ("munich-aml-15", MUNICH_AML),
        ("barcelona-13", BARCELONA),
        ("marrow-cells", "N N1 E L2 M2 N5"),
        ("blood-control", "N1 N2 N3 N4 N5 E B M2 R3 L2"),
    ],
)
def test_shipped_mappings_hold_exactly_their_labels(vocabulary: Vocabulary, name: str, labels: str) -> None:
    mapping = load_mapping(name)
    mapping.check_against(vocabulary)
    assert set(mapping.labels) == set(labels.split())
    assert load_mapping(MAPPINGS_DIR / f"{name}.toml") == mapping


def test_every_shipped_mapping_is_tested_here() -> None:
    assert mapping_names() == ("barcelona-13", "blood-control", "marrow-cells", "munich-aml-15", "munich-marrow-21")


@pytest.mark.parametrize(
    ("name", "label", "code"),
    [
        ("munich-marrow-21", "PEB", "R"),
        ("munich-marrow-21", "FGC", "N1"),
        ("munich-marrow-21", "KSC", "V"),
        ("munich-aml-15", "MYO", "N"),
        ("munich-aml-15", "MON", "M2"),
        ("barcelona-13", "SNE", "N5"),
    ],
)
def test_mapping_translates(name: str, label: str, code: str) -> None:
    mapping = load_mapping(name)
    assert mapping.translate(label, "f.json", 0) == code
    assert mapping.labels[label].approximate is None


def test_mapping_says_where_it_is_approximate_and_why_it_drops() -> None:
    assert "lineage not stated" in (load_mapping("munich-marrow-21").labels["BLA"].approximate or "")
    barcelona = load_mapping("barcelona-13")
    assert barcelona.translate("PLATELET", "f.json", 0) is None
    assert barcelona.labels["PLATELET"].drop == "not a nucleated cell"


def test_mapping_refuses_an_unknown_label() -> None:
    with pytest.raises(
        VocabularyError, match=r"^f.json, shape 2: found label 'PMYO', .*munich-aml-15.*nearest is 'PMO'"
    ):
        load_mapping("munich-aml-15").translate("PMYO", "f.json", 2)


def test_mapping_that_does_not_exist_lists_the_shipped() -> None:
    with pytest.raises(VocabularyError, match=r"munich: not found, neither a built-in mapping.*barcelona-13"):
        load_mapping("munich")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('label = "X"', "expected one of code, codes, and drop with the reason"),
        ('label = "X"\ncode = "N"\ndrop = "why"', "expected one of code, codes, and drop with the reason"),
        ('code = "N"', "found no key label"),
        ('label = "X"\ncode = 1', "found code = 1, expected a text"),
        ('label = "X"\ncode = "N"\n[[labels]]\nlabel = "X"\ncode = "N"', "found label 'X' a second time"),
    ],
)
def test_broken_mapping(tmp_path: Path, row: str, message: str) -> None:
    path = mapping_file(tmp_path, row)
    with pytest.raises(VocabularyError, match=message):
        load_mapping(path)


def test_mapping_of_another_vocabulary_is_refused(tmp_path: Path, vocabulary: Vocabulary) -> None:
    path = mapping_file(tmp_path, 'label = "X"\ncode = "N"', vocabulary="other")
    with pytest.raises(VocabularyError, match="made for vocabulary 'other', found 'marrow-37'"):
        load_mapping(path).check_against(vocabulary)


def test_mapping_to_an_unknown_code_is_refused(tmp_path: Path, vocabulary: Vocabulary) -> None:
    path = mapping_file(tmp_path, 'label = "X"\ncode = "N7"')
    with pytest.raises(VocabularyError, match=r"mapping own, label 'X': found label 'N7'"):
        load_mapping(path).check_against(vocabulary)


def mapping_file(folder: Path, row: str, vocabulary: str = "marrow-37") -> Path:
    head = f'schema_version = 1\nname = "own"\nversion = "1"\nvocabulary = "{vocabulary}"\nsource = "here"\n'
    path = folder / "own.toml"
    path.write_text(f"{head}[[labels]]\n{row}\n", encoding="utf-8")
    return path


def test_reference_ranges_are_one_named_column_with_marks(vocabulary: Vocabulary) -> None:
    reference = load_reference_ranges()
    assert (reference.column, reference.vocabulary) == ("wintrobe", vocabulary.name)
    assert (reference.specimen, reference.age_group) == ("marrow", "adult")
    row = reference.ranges["N"]
    assert (row.codes, row.low, row.high, row.mark) == (("N0", "N"), 0.2, 1.5, "S")
    assert (reference.ranges["N5"].mark, reference.ranges["M"].mark) == ("K", "I")
    ratio = reference.ranges["M:E"]
    assert (ratio.unit, ratio.low, ratio.high) == ("ratio", 1.5, 3.3)


def test_reference_ranges_name_only_codes_of_the_nucleated_differential(vocabulary: Vocabulary) -> None:
    for row in load_reference_ranges().ranges.values():
        assert all(vocabulary.lookup(code).ndc for code in row.codes + row.denominator_codes)


def test_reference_totals_span_their_lineage(vocabulary: Vocabulary) -> None:
    ranges = load_reference_ranges().ranges
    assert set(ranges["erythroid_total"].codes) == set(vocabulary.codes_where(lineage="erythroid"))
    assert set(ranges["M:E"].denominator_codes) == set(vocabulary.codes_where(lineage="erythroid"))
    myeloid = set(vocabulary.codes_where(lineage="granulocytic")) | set(vocabulary.codes_where(lineage="monocytic"))
    assert set(ranges["M:E"].codes) == myeloid


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('mark = "S"', 'mark = "Z"', "found mark 'Z', expected one of I, K, S"),
        ("high = 1.5", "high = 0.1", "found low 0.2 and high 0.1, expected 0 <= low <= high"),
        ('unit = "ratio"', 'unit = "percent"', "found unit 'percent', expected denominator_codes with the unit ratio"),
    ],
)
def test_broken_reference_ranges(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "ranges.toml"
    path.write_text(DEFAULT_REFERENCE_RANGES.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    with pytest.raises(VocabularyError, match=message):
        load_reference_ranges(path)
