"""The pages of a department in a real browser: assign, read, adjudicate by keyboard, agree, and keep accounts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from marrowscope.review.accounts import add_account, find_account, utc_now
from marrowscope.review.decisions import Decision
from marrowscope.review.events import Draft
from marrowscope.review.guard import COOKIE
from marrowscope.review.sessions import begin_session
from tests.required import AXE, module_of
from tests.review.pages.conftest import WAIT_MS, Served, expect, only_from, saved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Page, Route

PASSWORD = "four plain words here"  # noqa: S105  of accounts of these tests


@pytest.fixture
def department(served: Served) -> Served:
    """Give the station accounts: two readers, a signer, an admin."""
    for name, role in (("ada", "reader"), ("bo", "reader"), ("dee", "signer"), ("root", "admin")):
        add_account(served.station.store.engine, name, [role], full_name=name.title(), password=PASSWORD)
    served.station.lone_reader = None
    return served


@pytest.fixture
def opened_by(chromium: Browser, department: Served) -> Iterator[Callable[..., Page]]:
    """Give a function that opens a page as somebody; no script may fail, and nothing may break the policy."""
    contexts: list[Any] = []
    said: list[str] = []

    def load(name: str, place: str, *, lang: str = "en", bypass_csp: bool = False) -> Page:
        context = chromium.new_context(viewport={"width": 1280, "height": 800}, bypass_csp=bypass_csp)
        context.set_default_timeout(WAIT_MS)
        contexts.append(context)
        token = begin_session(department.station.store.engine, name, utc_now())
        context.add_cookies([{"name": COOKIE, "value": token, "url": department.address}])
        context.route("**/*", lambda route: only_from(route, department.address))
        page = context.new_page()
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("console", lambda line: said.append(line.text) if "Security Policy" in line.text else None)
        page.goto(f"{department.address}{place}?lang={lang}")
        page.wait_for_selector("body[data-ready]")
        return page

    yield load
    for context in contexts:
        context.close()
    assert said == []


def read_blinded(served: Served, *, patient: str = "P1") -> list[str]:
    """Let ada and bo read a patient; they dispute the first two cells, which are returned."""
    served.station.assign([patient], ["ada", "bo"], "dee")
    cells = [cell.cell_id for cell in served.station.patient(patient).frozen]
    for reader, codes in (("ada", ("N", "R", "N5")), ("bo", ("N1", None, "N5"))):
        named = [
            Decision("not_a_cell", cell) if code is None else Decision("relabel", cell, code)
            for cell, code in zip(cells, codes, strict=False)
        ]
        served.station.decide(patient, reader, named, 0, is_blinded=True)
    return cells[:2]


def test_a_signer_assigns_patients_and_ends_an_assignment_from_the_worklist(
    opened_by: Callable[..., Page], department: Served
) -> None:
    page = opened_by("dee", "/")
    expect(page.locator("#assign")).to_be_disabled()
    page.keyboard.press("Space")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    page.keyboard.press("a")
    expect(page.locator("dialog .for")).to_have_text("P1, P2")
    expect(page.get_by_role("button", name="Assign", exact=True)).to_be_disabled()
    page.locator("dialog input[value=ada]").check()
    expect(page.locator("dialog")).to_contain_text("One reader does not see the calls")
    page.locator("dialog input[value=bo]").check()
    page.get_by_role("button", name="Assign", exact=True).click()
    row = page.locator("tr[data-patient=P1]")
    expect(row.locator(".readers")).to_contain_text("ada 0 of")
    page.set_viewport_size({"width": 900, "height": 800})
    name = row.locator("th a")
    height = name.evaluate("link => { link.textContent = 'MW-20260117'; return link.offsetHeight; }")
    assert height < 30, "a name is not broken where the table is narrow"
    page.set_viewport_size({"width": 1280, "height": 800})
    assert department.station.state("P2").assigned == ("ada", "bo")
    department.station.store.append([Draft("ada", "P1", "full_review", new=True)])
    page.reload()
    expect(row.locator(".reading.finished")).to_have_text("ada finished")
    row.locator(".pick input").check()
    page.click("#assign")
    page.get_by_role("button", name="End the assignment").click()
    expect(row.locator(".readers")).to_have_text("\N{EN DASH}")
    assert department.station.state("P1").assigned == ()


def test_what_the_station_refuses_is_said_in_the_dialog(opened_by: Callable[..., Page], department: Served) -> None:
    page = opened_by("dee", "/")
    page.locator("tr[data-patient=P1] .pick input").check()
    page.click("#assign")
    page.locator("dialog input[value=ada]").check()
    cell = department.station.patient("P1").frozen[0].cell_id
    department.station.decide("P1", "bo", [Decision("relabel", cell, "N")], department.station.store.head().sequence)
    page.get_by_role("button", name="Assign", exact=True).click()
    expect(page.locator("dialog .problem")).to_contain_text("expected none before blinded readers begin")


def test_a_blinded_reader_sees_what_is_assigned_and_nothing_of_the_others(
    opened_by: Callable[..., Page], department: Served
) -> None:
    read_blinded(department)
    page = opened_by("ada", "/")
    row = page.locator("tr[data-patient=P1]")
    expect(row.locator(".readers")).to_have_text("you 3 of 22")
    expect(page.locator("#assign, .pick, nav a[href='/agreement']")).to_have_count(0)
    page.locator("#mine").check()
    expect(page.locator("tbody tr")).to_have_count(1)
    assert "bo" not in [word.strip() for word in row.inner_text().split()]
    row.locator("th a").click()
    page.wait_for_selector("body[data-ready]")
    expect(page.locator("#order")).to_have_value("field")
    orders = page.locator("#order option").evaluate_all("options => options.map((option) => option.value)")
    assert not {"least", "most", "cblc", "not_cblc"} & set(orders), "nothing that the calls would order"
    expect(page.locator(".range")).to_have_count(1)
    expect(page.locator("#panel .facts")).to_contain_text("not shown to you")


def test_disputes_are_settled_by_keyboard_alone_under_letters(
    opened_by: Callable[..., Page], department: Served
) -> None:
    first, second = read_blinded(department)
    page = opened_by("dee", "/")
    page.locator("tr[data-patient=P1] .dispute").press("Enter")
    page.wait_for_selector("body.adjudicating[data-ready]")
    expect(page.locator("#done")).to_have_text("0 of 2")
    expect(page.locator(".answer .letter")).to_have_text(["Reader A", "Reader B"])
    assert {page.locator(".answer .chip").nth(k).inner_text() for k in (0, 1)} == {"N", "N1"}
    assert not {"ada", "bo"} & set(page.content().replace(">", " ").replace("<", " ").replace('"', " ").split())
    page.keyboard.press("g")
    expect(page.locator("#view-field")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#picture")).to_have_attribute("data-shown", first)
    page.keyboard.type("n1")
    expect(page.locator("#done")).to_have_text("1 of 2")
    expect(page.locator("#cell-name")).to_have_text("Disputed cell 2 of 2")
    page.keyboard.press("x")
    expect(page.locator("#done")).to_have_text("2 of 2")
    saved(page)
    state = department.station.state("P1")
    assert (state.cells[first].code, state.cells[second].removed, state.disputed) == ("N1", "not_a_cell", frozenset())
    assert state.cells[first].decided_by == "dee"
    page.keyboard.press("Home")
    page.keyboard.type("nn")  # decided again
    saved(page)
    expect(page.locator("#stands")).to_have_text("decided by dee")
    assert department.station.state("P1").cells[first].code == "N"
    page.goto(f"{department.address}/")
    expect(page.locator("tr[data-patient=P1] .readers")).to_contain_text("adjudicated: 2")


def test_an_adjudication_is_taken_back_by_keys_and_by_its_button(
    opened_by: Callable[..., Page], department: Served
) -> None:
    first, second = read_blinded(department)
    page = opened_by("dee", "/patients/P1/adjudicate")
    before = department.station.state("P1")
    expect(page.locator("#withdraw")).to_be_hidden()
    page.keyboard.press("u")
    expect(page.locator("#typed")).to_have_text("Nothing to undo")
    page.keyboard.type("n2")
    page.keyboard.press("x")
    page.keyboard.press("Home")
    page.keyboard.type("n3")
    expect(page.locator("#done")).to_have_text("2 of 2")
    page.keyboard.press("u")
    saved(page)
    assert department.station.state("P1").cells[first].code == "N2", "the decision before it"
    page.keyboard.press("u")
    expect(page.locator("#done")).to_have_text("1 of 2")
    expect(page.locator("#cell-name")).to_have_text("Disputed cell 2 of 2")
    page.keyboard.press("Control+z")
    expect(page.locator("#done")).to_have_text("0 of 2")
    saved(page)
    state = department.station.state("P1")
    assert (state.disputed, state.cells, state.opinions) == (before.disputed, before.cells, before.opinions)
    page.keyboard.press("y")
    page.click("#redo")
    page.keyboard.press("Control+y")
    saved(page)
    state = department.station.state("P1")
    assert (state.cells[first].code, state.cells[second].removed, state.disputed) == ("N3", "not_a_cell", frozenset())
    page = opened_by("dee", "/patients/P1/adjudicate")  # another day: nothing of what was done is left in this browser
    expect(page.locator("#done")).to_have_text("2 of 2")
    page.keyboard.press("Home")
    page.click("#withdraw")
    expect(page.locator("#typed")).to_have_text("Taken back: the cell is disputed again")
    expect(page.locator("#stands")).to_have_text("not decided yet")
    expect(page.locator("#withdraw")).to_be_hidden()
    saved(page)
    assert department.station.state("P1").disputed == {first}
    page.click("#undo")
    saved(page)
    assert department.station.state("P1").cells[first].code == "N3"
    assert [event.kind for event in department.station.store.read("P1")].count("withdraw") == 3


def test_taking_back_is_recorded_once_and_another_signer_is_met(
    opened_by: Callable[..., Page], department: Served
) -> None:
    first, second = read_blinded(department)
    page = opened_by("dee", "/patients/P1/adjudicate")
    lost: list[str] = []

    def lose_the_answer(route: Route) -> None:
        if lost:
            route.continue_()
            return
        lost.append(route.fetch().text())
        route.abort()

    page.keyboard.type("n2")
    saved(page)
    page.route("**/api/patients/P1/events", lose_the_answer)
    page.keyboard.press("u")
    saved(page)
    assert "sequence" in lost[0]
    recorded = [event.kind for event in department.station.store.read("P1") if event.reader == "dee"]
    assert recorded.count("withdraw") == 1
    assert department.station.state("P1").disputed == {first, second}
    base = department.station.store.head().sequence
    for decision in (Decision("adjudicate", first, "N"), Decision("withdraw", first)):
        department.station.decide("P1", "gil", [decision], base)
    page.keyboard.press("Home")
    page.keyboard.type("n3")
    expect(page.locator("dialog.conflict")).to_contain_text("gil")
    expect(page.locator("dialog.conflict")).to_contain_text("adjudication taken back")
    page.click("dialog.conflict button:has-text('Record mine')")
    saved(page)
    assert department.station.state("P1").cells[first].code == "N3"


def test_an_auditor_opens_the_agreement_and_decides_nothing(opened_by: Callable[..., Page], department: Served) -> None:
    read_blinded(department)
    add_account(department.station.store.engine, "eve", ["auditor"], password=PASSWORD)
    page = opened_by("eve", "/")
    expect(page.locator("#assign, .pick, .dispute")).to_have_count(0)
    page.click("nav a[href='/agreement']")
    page.wait_for_selector("body[data-ready]")
    expect(page.locator("h2").first).to_have_text("ada, bo")
    head = department.station.store.head()
    page.goto(f"{department.address}/patients/P1")
    page.wait_for_selector("body[data-ready]")
    page.keyboard.type("n2")
    expect(page.locator("#typed")).to_contain_text("but not decide")
    assert department.station.store.head() == head


def test_an_answer_is_taken_by_a_click_and_one_that_names_nothing_cannot_be(
    opened_by: Callable[..., Page], department: Served
) -> None:
    first, _ = read_blinded(department)
    department.station.decide("P1", "ada", [Decision("relabel", first, None)], 0, is_blinded=True)
    department.station.decide(
        "P1", "ada", [Decision("split", first, {"parts": _halves(department, first)})], 0, is_blinded=True
    )
    page = opened_by("dee", "/patients/P1/adjudicate")
    expect(page.locator(".answer:disabled")).to_contain_text("split it into parts")
    page.locator(".answer:enabled").first.click()
    saved(page)
    assert department.station.state("P1").cells[first].code == "N1"


def _halves(served: Served, cell_id: str) -> list[dict[str, object]]:
    contour = next(cell.contour_xy for cell in served.station.patient("P1").frozen if cell.cell_id == cell_id)
    n = len(contour) // 4 * 2
    return [{"contour_xy": list(contour[: n + 2])}, {"contour_xy": [*contour[n:], *contour[:2]]}]


def test_the_agreement_is_shown_with_figures_that_the_policy_lets_stand(
    opened_by: Callable[..., Page], department: Served
) -> None:
    read_blinded(department)
    page = opened_by("dee", "/")
    page.click("nav a[href='/agreement']")
    page.wait_for_selector("body[data-ready]")
    expect(page.locator("h2").first).to_have_text("ada, bo")
    expect(page.locator(".plots svg")).to_have_count(2)
    tile = page.locator(".confusion rect.tile").first
    box = tile.bounding_box()
    assert box is not None
    assert min(box["width"], box["height"]) > 10, "another style of the station hides the tiles"
    assert tile.evaluate("tile => getComputedStyle(tile).fill") == "rgb(116, 25, 90)"
    with page.expect_download() as waiting:
        page.click("a[href='/agreement/kappa.csv']")
    assert waiting.value.path().read_text(encoding="utf-8").startswith("readers,level,name,kappa,")


def test_an_admin_keeps_the_accounts(opened_by: Callable[..., Page], department: Served) -> None:
    engine = department.station.store.engine
    page = opened_by("root", "/accounts")
    page.click("#add")
    page.get_by_label("Name", exact=True).fill("eve")
    page.get_by_label("Password", exact=True).fill("short")
    page.locator("dialog input[value=reader]").uncheck()
    page.locator("dialog input[value=auditor]").check()
    page.locator("dialog button.primary").click()
    expect(page.locator("dialog .problem")).to_contain_text("expected 12 to 128")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.locator("dialog button.primary").click()
    row = page.locator("tr[data-account=eve]")
    expect(row.locator(".role-chip")).to_have_text("auditor")
    row.get_by_role("button", name="Roles: eve").click()
    page.locator("dialog input[value=reader]").check()
    page.locator("dialog button.primary").click()
    expect(row.locator(".role-chip")).to_have_text(["auditor", "reader"])
    row.get_by_role("button", name="New password: eve").click()
    page.get_by_label("New password", exact=True).fill("another four plain words")
    page.locator("dialog button.primary").click()
    expect(page.locator("#said")).to_contain_text("its sessions have ended")
    row.get_by_role("button", name="Close: eve").click()
    page.locator("dialog button.primary").click()
    expect(row).to_have_class("closed")
    account = find_account(engine, "eve")
    assert account is not None
    assert (account.is_active, sorted(account.roles)) == (False, ["auditor", "reader"])
    row.get_by_role("button", name="Open again: eve").click()
    page.locator("dialog button.primary").click()
    expect(row).not_to_have_class("closed")
    page.locator("tr[data-account=root]").get_by_role("button", name="Close: root").click()
    page.locator("dialog button.primary").click()
    expect(page.locator("dialog .problem")).to_contain_text("is the last admin")


def test_an_admin_begins_at_the_accounts_and_everybody_changes_the_own_password(
    opened_by: Callable[..., Page], department: Served
) -> None:
    page = opened_by("root", "/accounts")
    page.click("#password")
    page.get_by_label("Present password").fill(PASSWORD)
    page.get_by_label("New password", exact=True).fill("another four plain words")
    page.get_by_label("New password again").fill("another four plain word")
    page.locator("dialog button.primary").click()
    expect(page.locator("dialog .problem")).to_have_text("The two new passwords differ.")
    page.get_by_label("New password again").fill("another four plain words")
    page.locator("dialog button.primary").click()
    page.wait_for_url("**/login")
    page.fill("input[name=name]", "root")
    page.fill("input[name=password]", "another four plain words")
    page.click("button.primary")
    page.wait_for_url("**/accounts")
    expect(page.locator("#totals")).to_have_text("4 of 4 active")
    assert department.station.who("root") is not None


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_axe_finds_no_serious_or_critical_barrier(
    opened_by: Callable[..., Page], department: Served, lang: str
) -> None:
    axe = module_of(AXE, "axe_playwright_python.sync_playwright")

    def grave(page: Page) -> list[tuple[str, str]]:
        violations = axe.Axe().run(page).response["violations"]
        serious = [item for item in violations if item["impact"] in {"serious", "critical"}]
        return [(item["id"], node["html"]) for item in serious for node in item["nodes"][:3]]

    read_blinded(department)
    page = opened_by("dee", "/", lang=lang, bypass_csp=True)
    page.wait_for_selector(".dispute")
    assert grave(page) == []
    page.locator("tr[data-patient=P1] .pick input").check()
    page.click("#assign")
    page.wait_for_selector("dialog[open]")
    assert grave(page) == []
    for place in ("/patients/P1/adjudicate", "/agreement"):
        page.goto(f"{department.address}{place}?lang={lang}")
        page.wait_for_selector("body[data-ready]")
        assert grave(page) == [], place
    page.goto(f"{department.address}/patients/P1/adjudicate?lang={lang}")
    page.wait_for_selector("body[data-ready]")
    page.keyboard.type("n1")
    page.keyboard.press("?")
    page.wait_for_selector("dialog[open]")
    assert grave(page) == []
    page = opened_by("root", "/accounts", lang=lang, bypass_csp=True)
    assert grave(page) == []
    page.click("#add")
    page.wait_for_selector("dialog[open]")
    assert grave(page) == []
