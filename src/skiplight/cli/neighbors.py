"""`skiplight neighbors`: list the nearest words."""

from __future__ import annotations

from skiplight.cli.common import load_vectors, print_nearest, query_parser


def neighbors(arguments: list[str]) -> int:
    """List the words nearest to given words: `skiplight neighbors RUN paris music`."""
    parser = query_parser("neighbors", neighbors.__doc__)
    parser.add_argument("word", nargs="+")
    options = parser.parse_args(arguments)
    from skiplight.evaluation.neighbors import neighbors as nearest

    vectors = load_vectors(options)
    print_nearest({word: nearest(vectors, word, options.k) for word in options.word}, options.json)
    return 0
