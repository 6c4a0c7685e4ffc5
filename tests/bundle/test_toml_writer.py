"""What is written as TOML is read again as it was."""

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from marrowscope.bundle.toml_writer import to_toml

_keys = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="\x7f"), min_size=1, max_size=8)
_leaves = (
    st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x7f"), max_size=10)
)


@given(
    values=st.recursive(
        st.dictionaries(_keys, _leaves | st.lists(st.integers(), max_size=3), max_size=4),
        lambda children: st.dictionaries(_keys, children | _leaves | st.lists(children, max_size=3), max_size=4),
        max_leaves=8,
    )
)
def test_any_table_survives_toml(values: dict[str, object]) -> None:
    assert tomllib.loads(to_toml(values)) == values


def test_lists_of_tables_and_tables_of_tables_alone() -> None:
    values = {"a": 1, "members": {"x": {"n": 2}}, "sources": [{"name": "one", "n_cells": {"N": 3}}, {"name": "two"}]}
    assert to_toml(values) == (
        'a = 1\n\n[members.x]\nn = 2\n\n[[sources]]\nname = "one"\n\n[sources.n_cells]\nN = 3\n'
        '\n[[sources]]\nname = "two"\n'
    )
