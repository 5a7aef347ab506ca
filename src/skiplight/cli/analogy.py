"""`skiplight analogy`: A is to B as C is to what."""

from __future__ import annotations

from skiplight.cli.common import load_vectors, print_nearest, query_parser


def analogy(arguments: list[str]) -> int:
    """A is to B as C is to what: `skiplight analogy RUN france paris italy`."""
    parser = query_parser("analogy", analogy.__doc__)
    for name in "abc":
        parser.add_argument(name)
    options = parser.parse_args(arguments)
    from skiplight.evaluation.neighbors import solve

    found = solve(load_vectors(options), options.a, options.b, options.c, options.k)
    print_nearest({f"{options.a} : {options.b} = {options.c} : ?": found}, options.json)
    return 0
