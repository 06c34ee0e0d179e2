"""A figure's SVG made ready to stand inside the page: themed, lean, and with ids of its own."""

import re
from xml.etree import ElementTree as ET

from melt.report.palette import PAPER, known, variable

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "{http://www.w3.org/1999/xlink}href"
_FONT = re.compile(r"font:\s*([0-9.]+)px[^;]*;?")
_URL = re.compile(r"url\(#([^)]+)\)")
_LONG = re.compile(r"(\d+\.\d{2})\d+")
_COLOUR = re.compile("|".join(re.escape(c) for c in known()), re.I)


def inline(svg: str, name: str, label: str) -> str:
    """The SVG element for the page.

    Args:
        svg: a document that matplotlib wrote.
        name: makes the ids in it the figure's own.
        label: what a screen reader says.
    """
    ET.register_namespace("", _SVG)
    root = ET.fromstring(svg)  # noqa: S314 - our own document; names in it were escaped when it was written
    for child in list(root):
        if child.tag == f"{{{_SVG}}}metadata":
            root.remove(child)
    used = _references(root)
    for element in root.iter():
        _rewrite(element, name, used)
    for size in ("width", "height", "version"):
        root.attrib.pop(size, None)
    root.set("role", "img")
    root.set("aria-label", label)
    root.set("class", "chart")
    return ET.tostring(root, encoding="unicode")


def _references(root: ET.Element) -> set[str]:
    """The ids that something points at."""
    found = set()
    for element in root.iter():
        for key, value in element.attrib.items():
            found.update(_URL.findall(value))
            if key == _XLINK:
                found.add(value.lstrip("#"))
    return found


def _rewrite(element: ET.Element, name: str, used: set[str]) -> None:
    for key, value in list(element.attrib.items()):
        if key == "id":
            if value in used:
                element.set("id", f"{name}-{value}")
            else:
                del element.attrib["id"]
        elif key == _XLINK:
            del element.attrib[key]
            element.set("href", f"#{name}-{value.lstrip('#')}")
        elif key == "style":
            element.set("style", _themed(_FONT.sub(r"font-size:\1px;", value)))
        elif key == "d":
            element.set("d", _LONG.sub(r"\1", value).replace("\n", ""))
        elif "url(#" in value:
            element.set(key, _URL.sub(rf"url(#{name}-\1)", value))


def _themed(style: str) -> str:
    """Colours of the light theme become variables; the paper becomes transparent."""
    style = style.replace(f"fill: {PAPER}", "fill: var(--paper)")
    return _COLOUR.sub(lambda m: f"var(--{variable(m[0].lower())})", style)
