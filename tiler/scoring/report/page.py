"""The report: one HTML file with all that was measured; it runs no script and fetches nothing."""

from __future__ import annotations

from importlib.resources import files

from tiler.formats.html import text
from tiler.scoring.metrics import Metrics
from tiler.scoring.report import sections
from tiler.scoring.report.content import Content
from tiler.scoring.report.elements import paragraph
from tiler.version import __version__

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{title}</h1>
{counts}
{main_numbers}
<nav aria-label="Sections">{links}</nav>
</header>
<main>
{sections}</main>
<footer>tiler {version}. n/a: nothing to measure.</footer>
</body>
</html>
"""


def page(metrics: Metrics) -> str:
    """The report of what `score` returned. The same metrics give the same text."""
    content = Content.of(metrics)
    document = _Document()
    document.add("numbers", "All numbers", sections.numbers(content))
    document.add("card", "What was scored, and how", sections.card(content))
    document.add("classes", "Classes", sections.classes(content))
    document.add("sizes", "Sizes", sections.sizes(content))
    document.add("operating", "At one confidence", sections.operating(content))
    document.add("seams", "Seams of tiles", sections.seams(content))
    document.add("errors", "Errors and what they cost", sections.errors(content))
    document.add("merging", "Tiles and full images", sections.merging(content))
    document.add("curves", "Curves", sections.curves(content))
    document.add("confusion", "Confusion matrix", sections.confusion(content))
    document.add("places", "Worst places", sections.places(content))
    document.add("images", "Worst images", sections.images(content))
    return document.html(content)


class _Document:
    """Sections below the title, the main numbers and links to them."""

    def __init__(self) -> None:
        self._links: list[str] = []
        self._sections: list[str] = []

    def add(self, name: str, heading: str, html: str) -> None:
        """One more section, with an id."""
        self._links.append(f'<a href="#{name}">{text(heading)}</a>')
        self._sections.append(
            f'<section id="{name}">\n<h2>{text(heading)}</h2>\n{html}\n</section>\n'
        )

    def html(self, content: Content) -> str:
        """All of the page."""
        return TEMPLATE.format(
            policy=POLICY,
            title=text(content.title),
            style=files("tiler.scoring.report").joinpath("page.css").read_text("utf-8"),
            counts=paragraph(content.counts, "quiet"),
            main_numbers=sections.main_numbers(content),
            links="".join(self._links),
            sections="".join(self._sections),
            version=text(__version__),
        )
