"""`skiplight analogy`: answer analogies."""

from __future__ import annotations

from skiplight.cli.common import load_vectors, print_nearest, query_parser


def analogy(arguments: list[str]) -> int:
    """Answer "A is to B as C is to ?": `skiplight analogy RUN france paris italy`."""
    parser = query_parser("analogy", analogy.__doc__)
    for name in "abc":
        parser.add_argument(name)
    options = parser.parse_args(arguments)
    from skiplight.evaluation.neighbors import solve

    nearest = solve(load_vectors(options), options.a, options.b, options.c, options.k)
    print_nearest({f"{options.a} : {options.b} = {options.c} : ?": nearest}, options.json)
    return 0
