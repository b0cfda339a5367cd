from __future__ import annotations

from datetime import date
from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.files.names import receipt_name, unique

SHA256 = "9f2c" * 16
TEXTS = st.text(max_size=300)


def test_a_file_name_has_date_merchant_and_transaction() -> None:
    assert receipt_name(date(2026, 2, 13), "Café Müller", "7c1e-5d0e", SHA256, "pdf") == (
        "2026-02-13_Café-Müller_7c1e-5d0e_9f2c9f2c.pdf"
    )
    assert receipt_name(None, None, "1", SHA256, "png") == "undated_unknown_1_9f2c9f2c.png"


@given(TEXTS, TEXTS)
def test_any_name_is_one_part_of_a_path_on_every_system(merchant: str, transaction_id: str) -> None:
    name = receipt_name(date(2026, 2, 13), merchant, transaction_id, SHA256, "pdf")
    assert PurePosixPath(name).parts == PureWindowsPath(name).parts == (name,)
    assert len(name.encode()) < 255
    assert name.isprintable()
    assert name.startswith("2026-02-13_")


@given(TEXTS, TEXTS)
def test_two_organizations_stay_two(one: str, other: str) -> None:
    assert (unique(one) == unique(other)) == (one == other)


@pytest.mark.parametrize("words", ["..", ".", "", "con", "NUL.txt", "com1", ".hidden", "a/b"])
def test_names_that_a_file_system_refuses_are_changed(words: str) -> None:
    assert unique(words) not in {words, ""}
    assert not unique(words).startswith(".")
