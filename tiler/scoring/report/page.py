"""The report: one HTML file with all that was measured; it runs no script and fetches nothing."""

from __future__ import annotations

from importlib.resources import files

from tiler.scoring.metrics import Metrics
from tiler.scoring.report import sections
from tiler.scoring.report.content import Content
from tiler.scoring.report.elements import paragraph, text
from tiler.version import __version__

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(metrics: Metrics) -> str:
    """The report of what `score` returned. The same metrics give the same text."""
    content = Content.of(metrics)
    return _document(
        content,
        {
            "numbers": ("All numbers", sections.numbers(content)),
            "card": ("What was scored, and how", sections.card(content)),
            "classes": ("Classes", sections.classes(content)),
            "sizes": ("Sizes", sections.sizes(content)),
            "seams": ("Seams of tiles", sections.seams(content)),
            "errors": ("Errors and what they cost", sections.errors(content)),
            "merging": ("Tiles and full images", sections.merging(content)),
            "curves": ("Curves", sections.curves(content)),
            "confusion": ("Confusion matrix", sections.confusion(content)),
            "places": ("Worst places", sections.places(content)),
            "images": ("Worst images", sections.images(content)),
        },
    )


def _document(content: Content, parts: dict[str, tuple[str, str]]) -> str:
    """The sections, by their ids, below the title, the main numbers and links to them."""
    title = text(content.title)
    links = []
    bodies = []
    for name, (heading, html) in parts.items():
        links.append(f'<a href="#{name}">{text(heading)}</a>')
        bodies.append(f'<section id="{name}">\n<h2>{text(heading)}</h2>\n{html}\n</section>\n')
    style = files("tiler.scoring.report").joinpath("page.css").read_text("utf-8")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{title}</h1>
{paragraph(content.counts, "quiet")}
{sections.main_numbers(content)}
<nav aria-label="Sections">{"".join(links)}</nav>
</header>
<main>
{"".join(bodies)}</main>
<footer>tiler {text(__version__)}. n/a: nothing to measure.</footer>
</body>
</html>
"""
