"""Files and folders on disk: written whole or not at all, replaced only where we made them, one call at a time.

``whole_files`` writes files whole, ``folders`` marks and replaces folders, ``resumed`` goes on with an unfinished one,
``locks`` keeps a second call out, ``made_by`` knows which call a folder was made by.
"""

from __future__ import annotations

from marrowscope.disk.folders import (
    MARKER_NAME,
    Marker,
    begin_filling,
    begin_folder,
    mark_folder,
    name_files,
    new_files,
    new_folder,
    note_exit_code,
    read_marker,
    refuse_foreign_files,
    refuse_foreign_folder,
    refuse_foreign_unfinished,
    refuse_working_folder,
    remove_unfinished,
    replace_folder,
    result_of,
)
from marrowscope.disk.locks import locked
from marrowscope.disk.made_by import call_known_as, this_call
from marrowscope.disk.resumed import UnfinishedFolder, resumed_folder
from marrowscope.disk.whole_files import write_bytes, write_json, write_text, written_whole

__all__ = [
    "MARKER_NAME",
    "Marker",
    "UnfinishedFolder",
    "begin_filling",
    "begin_folder",
    "call_known_as",
    "locked",
    "mark_folder",
    "name_files",
    "new_files",
    "new_folder",
    "note_exit_code",
    "read_marker",
    "refuse_foreign_files",
    "refuse_foreign_folder",
    "refuse_foreign_unfinished",
    "refuse_working_folder",
    "remove_unfinished",
    "replace_folder",
    "result_of",
    "resumed_folder",
    "this_call",
    "write_bytes",
    "write_json",
    "write_text",
    "written_whole",
]
