"""Word pairs are read from files as they come; if it is not clear which column has the judgements, the error asks."""

from __future__ import annotations

import csv
import io
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiplight.errors import EvaluationError
from skiplight.evaluation.pair_files import parse_pairs
from skiplight.evaluation.sets import set_name
from skiplight.evaluation.similarity import read_pairs

EXPECTED = (("sun", "moon"), ("New York", "city")), (7.5, 3.0)


@pytest.mark.parametrize(
    "text",
    [
        "sun, moon, 7.5\nNew York, city, 3\n",
        "sun;moon;7,5\nNew York;city;3,0\n",
        "sun\tmoon\t7,5\nNew York\tcity\t3\n",
        'word1,word2,score\nsun,moon,"7,5"\n"New York",city,3\n',
        ",word1,word2,score\n0,sun,moon,7.5\n1,New York,city,3\n",
        "1\tsun\tmoon\t7.5\n2\tNew York\tcity\t3\n",
        "sun,moon,7,8\nNew York,city,4,2\n",
        "Word 1,Word 2,annotator1,annotator2\nsun,moon,7,8\nNew York,city,4,2\n",
        "Word 1,Word 2,Human (mean),1,2,3\nsun,moon,7.5,1,2,3\nNew York,city,3,1,1,2\n",
        "7.5 ; sun ; moon\n3 ; New York ; city\n",
        "w1\tw2\tPOS\tsim\nsun\tmoon\tN\t7.5\nNew York\tcity\tN\t3\n",
    ],
)
def test_any_layout_that_is_clear_is_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "set.csv"
    path.write_text(text, encoding="utf-8")
    pairs = read_pairs(path)
    assert (pairs.words, pairs.judgements) == EXPECTED


def test_where_columns_of_numbers_differ_the_error_asks_and_the_log_tells_what_was_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "SimLex.csv"
    path.write_text("word1,word2,SimLex999,SD,sun\nsun,moon,7.5,1.2,0\nNew York,city,3,0.5,1\n")
    with pytest.raises(EvaluationError, match=r"several columns of numbers, SimLex999, SD, sun: name .*csv:SimLex999`"):
        read_pairs(path)
    with caplog.at_level(logging.INFO, "skiplight"):
        pairs = read_pairs(f"{path}:SD")
    assert (pairs.name, pairs.judgements) == ("SimLex-SD", (1.2, 0.5))
    assert "judgements are column 'SD'" in caplog.text
    with pytest.raises(EvaluationError, match=r"SimLex.csv:sd`: there is no such column .* has SimLex999, SD, sun"):
        read_pairs(f"{path}:sd")
    assert set_name(path) == "SimLex"


@pytest.mark.parametrize("text", ["sun moon\n", "1 2 3\n4 5 6\n", "sun,moon,7.5\nsun,moon\nmoon,sun,x\nsun,a,1\n"])
def test_lines_without_two_words_and_a_number_are_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "set.txt"
    path.write_text(text)
    with pytest.raises(EvaluationError, match=r"two words and a number on each line, got line \d"):
        read_pairs(path)


WORDS = st.text(st.characters(categories=["L"]), min_size=1, max_size=6)
ROWS = st.lists(st.tuples(WORDS, WORDS, st.floats(0, 10).map(lambda x: round(x, 2))), min_size=2, max_size=9)


@given(ROWS, st.sampled_from("\t;, "), st.booleans(), st.booleans())
def test_what_is_written_is_read(rows: list[tuple[str, str, float]], separator: str, header: bool, index: bool) -> None:
    rows = [(a, b, x) for a, b, x in rows if a.lower() not in ("nan", "inf", "infinity")]
    rows = [(a, b, x) for a, b, x in rows if b.lower() not in ("nan", "inf", "infinity")]
    out = io.StringIO()
    writer = csv.writer(out, delimiter=separator, lineterminator="\n")
    if header:
        writer.writerow((["row"] if index else []) + ["first", "second", "score"])
    for number, row in enumerate(rows):
        writer.writerow(([number] if index else []) + list(row))
    words, judgements = parse_pairs(Path("set.csv"), out.getvalue().splitlines(), None)
    assert words == [(a, b) for a, b, _ in rows]
    assert judgements == pytest.approx([x for _, _, x in rows])
