"""The pages in a real browser: Chromium sorts, filters, opens a cell and zooms; axe-core looks for barriers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from marrowscope.records import Patient
from marrowscope.report import write_report
from tests.chromium import launched_chromium
from tests.fake_runs import assess_as, make_run
from tests.required import AXE, CHROMIUM, module_of

playwright = module_of(CHROMIUM, "playwright.sync_api", whole_module=True)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Locator, Page

LANGUAGES, SCHEMES = ("en", "zh"), ("light", "dark")
PATIENTS = [
    Patient("P1", "A", "control", specimen="marrow", age_group="adult"),
    Patient("P2", "B", "AML", specimen="marrow", age_group="adult"),
    Patient("P10", "A", "AML"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched_chromium() as launched:
        yield launched


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Give a report of three patients in each language, the first of them with everything filled in."""
    root = tmp_path_factory.mktemp("browser")
    run = make_run(root, PATIENTS, n_fields=3, n_cells=20)
    assess_as(run, "P1")
    return {lang: write_report(run.folder, root / lang, lang=lang).parent for lang in LANGUAGES}


@pytest.fixture
def opened(browser: Browser, reports: dict[str, Path]) -> Iterator[Callable[..., Page]]:
    """Give a function that opens a page of the report; afterwards the page must have said nothing in its console."""
    contexts, said = [], []

    def load(name: str, lang: str = "en", *, width: int = 1280, **options: object) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
        page.goto((reports[lang] / name).as_uri())
        return page

    yield load
    for context in contexts:
        context.close()
    assert said == []


def shown_patients(page: Page) -> list[str]:
    rows = page.locator("#cohort tbody tr:visible th").all_inner_texts()
    return [text.strip() for text in rows]


def test_a_click_on_a_head_sorts_and_a_second_one_turns_the_order(opened: Callable[..., Page]) -> None:
    page = opened("index.html")
    head = page.locator("#cohort thead button", has_text="Patient")
    head.click()
    assert shown_patients(page) == ["P1", "P2", "P10"]  # by number, not by letter
    head.click()
    assert shown_patients(page) == ["P10", "P2", "P1"]
    assert page.locator("#cohort [aria-sort]").get_attribute("aria-sort") == "descending"
    page.locator("#cohort thead button", has_text="CBLC ratio").click()
    assert shown_patients(page)[0] == "P1"


def test_sorting_works_by_keyboard(opened: Callable[..., Page]) -> None:
    page = opened("index.html")
    page.locator("#cohort thead button", has_text="Center").focus()
    page.keyboard.press("Enter")
    assert shown_patients(page)[-1] == "P2"


def test_words_and_choices_filter_together_and_can_be_cleared(opened: Callable[..., Page]) -> None:
    page = opened("index.html")
    page.get_by_role("searchbox").fill("aml")
    assert shown_patients(page) == ["P2", "P10"]
    page.locator("select[data-column=center]").select_option("A")
    assert shown_patients(page) == ["P10"]
    assert page.locator("output").inner_text() == "1 of 3 shown"
    page.get_by_role("button", name="Clear").click()
    assert len(shown_patients(page)) == 3
    page.locator("select[data-column=call]").select_option("above")
    assert shown_patients(page) == ["P1"]
    page.locator("select[data-column=call]").select_option("")
    page.locator("select[data-column=flags]").select_option("blurred_fields")
    assert shown_patients(page) == ["P1"]


def test_a_mark_of_the_strips_opens_its_patient(opened: Callable[..., Page]) -> None:
    page = opened("index.html")
    page.locator("a.dot[title^='P10']").first.click()
    assert page.locator("h1").inner_text() == "P10"


def attribute(found: Locator, name: str) -> str:
    value = found.get_attribute(name)
    assert value is not None
    return value


def view_width(page: Page, number: int) -> float:
    return float(attribute(page.locator(f"#field-{number} svg"), "viewBox").split(" ")[2])


def test_a_cell_of_the_gallery_opens_in_its_field_and_leads_back(opened: Callable[..., Page]) -> None:
    page = opened("patients/P1.html")
    link = page.locator(".cells a").first
    cell_id = attribute(link, "id").removeprefix("g-")
    number = int(page.locator(f"#c-{cell_id}").evaluate("mark => mark.closest('.field').dataset.number"))
    link.focus()
    page.keyboard.press("Enter")
    page.wait_for_function(f"document.activeElement.id === 'c-{cell_id}'")
    zoomed = f"document.querySelector('#field-{number} svg').viewBox.baseVal.width < 120"
    page.wait_for_function(zoomed)  # the browser moves the focus first, then the script zooms onto the cell
    assert cell_id[:8] in page.locator(f"#field-{number} .readout").inner_text()
    top = f"document.getElementById('c-{cell_id}').getBoundingClientRect().top"
    page.wait_for_function(f"0 <= {top} && {top} < 900")  # scrolling there is smooth
    page.keyboard.press("Enter")
    page.wait_for_function(f"document.activeElement.id === 'g-{cell_id}'")


def test_escape_leads_back_and_shows_the_whole_field(opened: Callable[..., Page]) -> None:
    page = opened("patients/P1.html")
    link = page.locator("#near ~ .cells a").first
    link.click()
    page.wait_for_function("document.activeElement.matches('.mark')")
    number = int(page.evaluate("document.activeElement.closest('.field').dataset.number"))
    page.wait_for_function(f"document.querySelector('#field-{number} svg').viewBox.baseVal.width < 120")
    page.keyboard.press("Escape")
    page.wait_for_function("document.activeElement.matches('.cells a')")
    assert view_width(page, number) == 480


def test_a_cell_without_a_picture_is_reached_from_its_category_and_leads_back(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("marrowscope.report.gallery.CBLC_LIMITS", (1, 1))
    report = write_report(make_run(tmp_path, PATIENTS[:1], n_cells=20).folder).parent
    page = browser.new_page()
    page.goto((report / "patients" / "P1.html").as_uri())
    page.locator(".between summary").first.click()
    link = page.locator(".between a").first
    cell = attribute(link, "href").removeprefix("#")
    link.click()
    page.wait_for_function(f"document.activeElement.id === '{cell}'")
    page.evaluate("document.querySelector('.between').removeAttribute('open')")
    page.keyboard.press("Escape")
    page.wait_for_function("document.activeElement.matches('details.between[open] a')")
    page.close()


def test_the_back_button_of_the_browser_leads_back_too(opened: Callable[..., Page]) -> None:
    page = opened("patients/P1.html")
    page.locator(".cells a").first.click()
    page.wait_for_function("document.activeElement.matches('.mark')")
    page.go_back()
    assert page.url.endswith("P1.html")


def test_fields_zoom_by_button_keyboard_and_wheel(opened: Callable[..., Page]) -> None:
    page = opened("patients/P1.html")
    field = page.locator("#field-1 svg")
    page.get_by_role("button", name="Zoom in, field 1").click()
    assert view_width(page, 1) == pytest.approx(320)
    page.get_by_role("button", name="Whole field 1").click()
    assert view_width(page, 1) == 480
    field.focus()
    page.keyboard.press("+")
    page.keyboard.press("ArrowRight")
    x, _, width, _ = (float(value) for value in attribute(field, "viewBox").split(" "))
    assert width == pytest.approx(320)
    assert x > 80
    page.keyboard.press("0")
    assert view_width(page, 1) == 480
    field.hover()
    page.mouse.wheel(0, -200)
    page.wait_for_function("document.querySelector('#field-1 svg').viewBox.baseVal.width < 400")


def test_the_wheel_scrolls_the_page_over_a_field_that_was_not_chosen(opened: Callable[..., Page]) -> None:
    page = opened("patients/P1.html")
    page.locator("#field-1 svg").hover()
    before = page.evaluate("window.scrollY")
    page.mouse.wheel(0, 200)
    page.wait_for_function(f"window.scrollY > {before}")
    assert view_width(page, 1) == 480


def test_every_cell_of_a_field_is_reached_and_read_out_by_keyboard(opened: Callable[..., Page]) -> None:
    page = opened("patients/P1.html")
    page.locator("#field-1 svg").focus()
    seen = set()
    for _ in range(page.locator("#field-1 .mark").count()):
        page.keyboard.press("n")
        seen.add(page.locator("#field-1 .readout").inner_text())
    assert len(seen) == page.locator("#field-1 .mark").count()
    assert all(" · cell " in text and " at x " in text for text in seen)


def test_keyboard_focus_is_seen_and_starts_with_the_way_to_the_content(opened: Callable[..., Page]) -> None:
    page = opened("patients/P1.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.locator(".skip").evaluate("link => link.getBoundingClientRect().x") >= 0
    page.keyboard.press("Tab")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"


def test_without_scripts_the_links_lead_to_the_cell(opened: Callable[..., Page]) -> None:
    page = opened("patients/P1.html", java_script_enabled=False)
    link = page.locator(".cells a").first
    target = attribute(link, "href")
    link.click()
    assert page.url.endswith(target)
    assert page.locator(target).bounding_box() is not None
    assert page.locator(".tools").first.is_hidden()


@pytest.mark.parametrize("name", ["index.html", "patients/P1.html"])
@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("width", [640, 390])  # 1280 at 200%, and a phone
def test_page_is_not_wider_than_the_window(opened: Callable[..., Page], name: str, lang: str, width: int) -> None:
    page = opened(name, lang, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("lang", LANGUAGES)
def test_cohort_table_fits_its_sheet_and_the_search_box_its_hint(opened: Callable[..., Page], lang: str) -> None:
    page = opened("index.html", lang, width=1280)
    page.evaluate("""() => {
      for (const row of document.querySelectorAll("#cohort tbody tr")) {
        row.cells[0].textContent = "simulated-patient-007";
        row.cells[2].textContent = "reactive_leftshift";
        row.cells[4].textContent = "1,234 of 2,345";
      }
    }""")
    assert page.evaluate("(e => e.scrollWidth <= e.clientWidth)(document.querySelector('.scroll'))")
    room = """e => {
      const style = getComputedStyle(e), pen = document.createElement("canvas").getContext("2d");
      pen.font = `${style.fontSize} ${style.fontFamily}`;
      return e.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight)
        - pen.measureText(e.placeholder).width;
    }"""
    assert page.locator(".filter input").evaluate(room) > 12, "the sign that clears the box takes some room too"


@pytest.mark.parametrize("name", ["index.html", "patients/P1.html", "patients/P10.html"])
@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_axe_finds_no_serious_or_critical_barrier(
    opened: Callable[..., Page], name: str, lang: str, scheme: str
) -> None:
    axe = module_of(AXE, "axe_playwright_python.sync_playwright")
    page = opened(name, lang, color_scheme=scheme, bypass_csp=True)  # the page's own policy would stop axe
    violations = axe.Axe().run(page).response["violations"]
    grave = [(item["id"], item["nodes"][0]["html"]) for item in violations if item["impact"] in {"serious", "critical"}]
    assert grave == []
