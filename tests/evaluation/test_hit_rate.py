"""Hit rates, held against sequences whose answer is known."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torchmetrics.retrieval import RetrievalHitRate, RetrievalMRR, RetrievalNormalizedDCG

from skiplight.corpus.sources.synthetic_sessions import make_sessions, write_synthetic_sessions
from skiplight.corpus.vocabulary import Vocabulary
from skiplight.errors import EvaluationError
from skiplight.evaluation.hit_rate import hit_rate, read_sequences
from skiplight.vectors.word_vectors import WordVectors


def test_the_hidden_item_is_among_the_ten_nearest_or_not(tmp_path: Path) -> None:
    # 40 items in two groups of 20; those of a group point the same way, the earlier ones the more so.
    table = torch.zeros(40, 3)
    table[:20, 0] = table[20:, 1] = 1
    table[:, 2] = torch.arange(20).repeat(2) / 20
    vectors = WordVectors(Vocabulary([f"i{n}" for n in range(40)], range(99, 59, -1)), table)
    path = tmp_path / "sequences.txt"
    path.write_text("i20 i21 i22\ni20 i21 i39\ni20 i5\ni20 unknown\nunknown i20\ni1 i2 i1\n")
    result = hit_rate(vectors, path)
    assert result.questions == 3
    assert result.score == pytest.approx(1 / 3), "i22 is near, i39 and i5 are not"
    assert result.popularity == pytest.approx(1 / 3), "i5 is among the ten most frequent"
    assert result.oov == pytest.approx(2 / 6)
    assert result.repeats == pytest.approx(1 / 6)
    path.write_text("unknown i20\n")
    with pytest.raises(EvaluationError, match="none of its 1 sequences"):
        hit_rate(vectors, path)


def test_sequences_are_read_from_tables_as_in_training(tmp_path: Path) -> None:
    rows = [["a", "b"], ["c", "a", "d"], ["b"]]
    lists = pa.table({"n": [1, 2, 3], "basket": rows, "text": [" ".join(row) for row in rows]})
    pq.write_table(lists, tmp_path / "lists.parquet")
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in lists.to_pylist()))
    (tmp_path / "table.csv").write_text("n,items\n" + "".join(f'{n},"{" ".join(row)}"\n' for n, row in enumerate(rows)))
    (tmp_path / "lines.csv").write_text("a,b\nc,a,d\nb\n")
    with gzip.open(tmp_path / "lines.tsv.gz", "wt") as file:
        file.write("a\tb\nc\ta\td\nb\n")
    (tmp_path / "integers.jsonl").write_text('{"text": [1, 22]}\n{"text": [3]}\n')
    for name in ("lists.parquet:basket", "lists.parquet", "rows.jsonl:basket", "rows.jsonl:text", "table.csv:items",
                 "lines.csv", "lines.tsv.gz"):  # fmt: skip
        assert read_sequences(tmp_path / name).sequences == rows, name
    assert read_sequences(tmp_path / "lists.parquet:basket").name == "lists-basket"
    assert read_sequences(tmp_path / "integers.jsonl").sequences == [["1", "22"], ["3"]]
    with pytest.raises(
        EvaluationError, match=r"lists.parquet, column baskets: there is no such column; there are n, bas"
    ):
        read_sequences(tmp_path / "lists.parquet:baskets")
    with pytest.raises(EvaluationError, match=r"rows.jsonl, column nothing: .* `FILE:COLUMN` names a column"):
        read_sequences(tmp_path / "rows.jsonl:nothing")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(EvaluationError, match=r"sequences of .*bad\.parquet: .* cannot be read"):
        read_sequences(tmp_path / "bad.parquet")


def test_all_three_measures_are_those_of_torchmetrics(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    vectors = WordVectors(
        Vocabulary([f"i{n}" for n in range(30)], range(99, 69, -1)), torch.randn(30, 4, generator=generator)
    )
    sequences = [torch.randperm(30, generator=generator)[:4].tolist() for _ in range(60)]
    path = tmp_path / "sequences.txt"
    path.write_text("\n".join(" ".join(f"i{item}" for item in items) for items in sequences))
    unit = vectors.unit()
    scores = torch.stack([unit[items[:-1]].mean(0) @ unit.T for items in sequences]) + 2  # above 0, as MRR needs it
    for row, items in enumerate(sequences):
        scores[row, items[:-1]] = 0
    hidden = torch.zeros(60, 30, dtype=torch.int64)
    hidden[torch.arange(60), [items[-1] for items in sequences]] = 1
    indexes = torch.arange(60)[:, None].expand(60, 30)
    expected = [
        float(metric(top_k=10)(scores, hidden, indexes=indexes))
        for metric in (RetrievalHitRate, RetrievalNormalizedDCG, RetrievalMRR)
    ]
    result = hit_rate(vectors, path)
    assert 0.05 < result.mrr < result.ndcg < result.score < 0.9
    assert [result.score, result.ndcg, result.mrr] == pytest.approx(expected, rel=1e-6)


def test_planted_sessions_stay_in_a_department_and_hide_their_last_item(tmp_path: Path) -> None:
    text, asked = (path.read_text().splitlines() for path in write_synthetic_sessions(tmp_path))
    assert len(text) == len(asked) == 8_000
    assert all(whole.rsplit(" ", 1)[0] == shown for shown, whole in zip(text, asked, strict=True))
    assert asked[0].split() == [f"item-{item}" for item in make_sessions()[0]]
