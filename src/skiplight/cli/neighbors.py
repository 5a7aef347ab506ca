"""`skiplight neighbors`: list the nearest words."""

from __future__ import annotations

from skiplight.cli.common import load_vectors, print_nearest, query_parser


def neighbors(arguments: list[str]) -> int:
    """List the words nearest to given words: `skiplight neighbors RUN paris music`."""
    parser = query_parser("neighbors", neighbors.__doc__)
    parser.add_argument("word", nargs="+")
    options = parser.parse_args(arguments)
    from skiplight.errors import EvaluationError
    from skiplight.vectors.nearest import find_row

    vectors = load_vectors(options)
    found, missing = {}, []
    for word in options.word:
        try:
            spelling = vectors.vocabulary.words[find_row(vectors.vocabulary, word)]
        except EvaluationError as error:
            missing.append(str(error))
            continue
        title = word if spelling == word or options.json else f"{word}: {spelling}"
        found[title] = vectors.most_similar(spelling, options.k)
    if found:
        print_nearest(found, options.json)
    if missing:
        raise EvaluationError("; ".join(missing))
    return 0
