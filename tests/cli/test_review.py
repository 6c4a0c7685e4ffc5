from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from marrowscope.cli.main import app, main
from marrowscope.errors import ReviewError
from marrowscope.review.accounts import add_account, change_account, find_account
from marrowscope.review.database import make_private_file, sqlite_url
from marrowscope.review.events import Draft
from marrowscope.review.store import Store
from marrowscope.studies import demo
from marrowscope.studies.demo import Demonstration

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result

    from tests.fake_runs import FakeRun


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["review", *map(str, words)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give the folder of a review with four events."""
    folder = tmp_path / "first-review"
    make_private_file(folder / "review.sqlite")
    store = Store(sqlite_url(folder / "review.sqlite"))
    for index in range(4):
        store.append([Draft("Ada", "P1", "relabel", f"c{index}", None, "N1")])
    store.close()
    return folder


def tamper(folder: Path, *statements: str) -> None:
    with sqlite3.connect(folder / "review.sqlite") as connection:
        for statement in ("DROP TRIGGER events_no_update", "DROP TRIGGER events_no_delete", *statements):
            connection.execute(statement)


def test_verify_says_that_a_log_is_sound(folder: Path) -> None:
    result = run("verify", folder)
    assert (result.exit_code, result.output.startswith("Sound: 4 events, head ")) == (0, True)
    found = json.loads(run("verify", folder, "--json").output)
    assert (found["events"], found["faults"]) == (4, [])
    signed = run("verify", folder / "review.sqlite", "--head", found["head"])
    assert (signed.exit_code, "it is event 4" in signed.output) == (0, True)
    lost = run("verify", folder, "--head", "f" * 64)
    assert (lost.exit_code, "no longer in this log" in lost.output) == (1, True)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE events SET new = '\"N5\"' WHERE sequence = 2", "Edited: event 2 (relabel by Ada"),
        ("DELETE FROM events WHERE sequence = 3", "Deleted: event 3 is missing"),
        ("DELETE FROM events WHERE sequence > 2", "Deleted: events 3 to 4 are missing"),
        ("UPDATE events SET new = 'no JSON' WHERE sequence = 2", "Edited: event 2"),
        ("INSERT INTO head SELECT 2, sequence, hash FROM head", "Added: the log has 2 heads of the chain"),
        ("UPDATE events SET sequence = 'abc' WHERE sequence = 4", "Added: a row has the number 'abc'"),
    ],
)
def test_verify_names_what_was_tampered_with(folder: Path, statement: str, said: str) -> None:
    tamper(folder, statement)
    result = run("verify", folder)
    assert (result.exit_code, said in result.output) == (1, True), result.output


def test_a_tail_that_was_deleted_with_the_head_set_back_is_told_by_the_head_of_a_document(folder: Path) -> None:
    head = json.loads(run("verify", folder, "--json").output)["head"]
    back = "UPDATE head SET sequence = 2, hash = (SELECT hash FROM events WHERE sequence = 2)"
    tamper(folder, "DELETE FROM events WHERE sequence > 2", back)
    assert run("verify", folder).exit_code == 0, "the database alone cannot know"
    result = run("verify", folder, "--head", head)
    assert (result.exit_code, "no longer in this log" in result.output) == (1, True)


def test_verify_names_events_that_changed_places(folder: Path) -> None:
    tamper(
        folder,
        "UPDATE events SET sequence = 99 WHERE sequence = 2",
        "UPDATE events SET sequence = 2 WHERE sequence = 3",
        "UPDATE events SET sequence = 3 WHERE sequence = 99",
    )
    output = run("verify", folder).output
    assert "Reordered: event 2 was recorded as event 3" in output
    assert "Reordered: event 3 was recorded as event 2" in output


def test_backup_and_restore_keep_the_head(folder: Path, tmp_path: Path) -> None:
    head = json.loads(run("verify", folder, "--json").output)["head"]
    assert head in run("backup", folder, "--out", tmp_path / "backup.sqlite").output
    assert head in run("restore", tmp_path / "backup.sqlite", "--out", tmp_path / "again").output
    assert json.loads(run("verify", tmp_path / "again", "--json").output)["head"] == head


def test_copy_makes_the_target(folder: Path, tmp_path: Path) -> None:
    result = run("copy", folder, tmp_path / "other")
    assert "Copied: 4 events" in result.output
    assert run("verify", tmp_path / "other").exit_code == 0


def test_an_account_is_made_with_its_roles(folder: Path) -> None:
    words = ("account", folder, "ada", "--role", "admin", "--role", "signer", "--password-stdin")
    result = CliRunner().invoke(app, ["review", *map(str, words)], input="four plain words here\n")
    assert result.output == "Account: ada (admin, signer)\n"
    store = Store(sqlite_url(folder / "review.sqlite"))
    account = find_account(store.engine, "ada")
    store.close()
    assert account is not None
    assert account.roles == {"admin", "signer"}


@pytest.mark.parametrize("entrance", ["password", "subject"])
def test_the_same_account_made_again_is_no_fault_and_any_other_is(folder: Path, entrance: str) -> None:
    """A call that was killed after its account was there ends well when it is made again."""

    def make(*more: str, phrase: str = "four plain words here") -> Result:
        how = ("--password-stdin",) if entrance == "password" else ("--subject", phrase.replace(" ", "-"))
        words = ("review", "account", str(folder), "ada", "--role", "admin", "--role", "signer", *how, *more)
        return CliRunner().invoke(app, words, input=f"{phrase}\n")

    for _ in range(2):
        done = make()
        assert (done.exit_code, done.output) == (0, "Account: ada (admin, signer)\n")
    for other in (make("--role", "auditor"), make("--full-name", "Ada L."), make(phrase="four other words here")):
        assert isinstance(other.exception, ReviewError)
        assert "found an account 'ada' already" in str(other.exception)
    store = Store(sqlite_url(folder / "review.sqlite"))
    add_account(store.engine, "bo", ["admin"])
    change_account(store.engine, "ada", roles=["admin", "signer"], is_active=False)
    store.close()
    assert isinstance(make().exception, ReviewError), "a closed account is not opened again"


@pytest.mark.parametrize(
    "words", [("verify", "nowhere"), ("backup", "nowhere", "--out", "x.sqlite"), ("copy", "a", "b")]
)
def test_a_review_that_is_not_there_is_said_in_one_sentence(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(["review", *words])
    assert stopped.value.code == 2
    assert "found no review there, expected its folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--public-url", "http://review.example.org"), "passwords travel over HTTPS only"),
        (("--db", "reviews/first"), "found 'reviews/first', expected the address of a database"),
        (("--bundle", "demo"), "demo: found no bundle that predicted a run here, expected"),
        (("--db", "mysql://x/y"), "found a database of mysql, expected a SQLite file or postgresql+psycopg"),
        (("--db", "postgresql+psycopg://postgres@127.0.0.1:1/none"), "check that it can be reached"),
    ],
)
def test_a_start_that_cannot_be_is_said_in_one_sentence(
    fake_run: Callable[..., FakeRun], words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["review", str(fake_run().folder), "--no-browser", *words])
    error = capsys.readouterr().err
    assert (stopped.value.code, said in error, "Traceback" in error) == (2, True, False), error


def test_photographs_that_are_not_found_are_said(
    fake_run: Callable[..., FakeRun], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, started = fake_run(n_fields=2), []
    monkeypatch.setattr("marrowscope.review.serve.serve", lambda *_, **__: started.append(1))
    paths = sorted(run.images.rglob("*.png"))
    for n_gone, said in ((0, None), (1, f"found {len(paths) - 1} of {len(paths)} photographs looked for")):
        for path in paths[:n_gone]:
            path.unlink()
        with pytest.raises(SystemExit) as stopped:
            main(["review", str(run.folder), "--no-browser"])
        assert (stopped.value.code, len(started)) == (0, n_gone + 1)
        assert (said or "") in capsys.readouterr().err
    for path in paths[1:]:
        path.unlink()
    with pytest.raises(SystemExit) as stopped:
        main(["review", str(run.folder), "--no-browser"])
    said = capsys.readouterr().err
    assert (stopped.value.code, len(started)) == (2, 2)
    assert f"found 0 of {len(paths)} photographs" in said
    assert "--images-from" in said


def test_a_missing_extra_is_said_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(SystemExit) as stopped:
        main(["review", "verify", "nowhere"])
    assert stopped.value.code == 2
    assert "pip install '.[review]'" in capsys.readouterr().err


def test_the_demonstration_ends_by_saying_how_to_review_what_it_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Demonstration(
        page=tmp_path / "index.html",
        report=tmp_path / "run" / "report" / "index.html",
        run=tmp_path / "run",
        cohort=tmp_path / "cohort",
        patients=(),
        real_report=tmp_path / "real-run" / "report" / "index.html",
        real_run=tmp_path / "real-run",
        real_patients=(),
    )
    monkeypatch.setattr(demo, "run_demo", lambda *_, **__: made)
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[-1].endswith(f"marrowscope review {made.real_run}")
