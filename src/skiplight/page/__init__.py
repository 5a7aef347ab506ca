"""One self-contained HTML page for a run, a comparison or a study: report.html in its folder."""
