"""`skiplight export`: write vectors for other programs."""

from __future__ import annotations

import argparse
from pathlib import Path

from skiplight.cli.common import RUN_HELP, add_no_verify, load_vectors


def export(arguments: list[str]) -> int:
    """Write vectors for other programs: `skiplight export RUN --format word2vec-binary --output vectors.bin`."""
    from skiplight.vectors.export import FORMATS
    from skiplight.vectors.export import export_vectors as write

    parser = argparse.ArgumentParser("skiplight export", description=export.__doc__)
    parser.add_argument("run", type=Path, help=RUN_HELP)
    parser.add_argument("--format", choices=list(FORMATS))
    parser.add_argument("--output", type=Path, help="file or folder to write")
    parser.add_argument("--escape", action="store_true", help="escape white space in words, for word2vec formats")
    parser.add_argument("--push-to-hub", metavar="OWNER/NAME", help="upload the vectors and their card to the Hub")
    add_no_verify(parser)
    options = parser.parse_args(arguments)
    if (options.format is None) != (options.output is None) or not (options.format or options.push_to_hub):
        parser.error("give --format and --output together, or --push-to-hub")
    vectors = load_vectors(options)
    if options.format:
        write(vectors, options.output, options.format, escape=options.escape)
        print(options.output)
    if options.push_to_hub:
        from skiplight.vectors.hub import push_to_hub
        from skiplight.vectors.word_vectors import vectors_folder

        print(push_to_hub(vectors_folder(options.run), options.push_to_hub))
    return 0
