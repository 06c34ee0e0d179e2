"""Colours and strokes: the hue and the kind of dash tell the family; shade, marker and length of dash the model.

The families' hues keep apart for the common kinds of colour blindness (blue, vermilion, green at different lightness);
the shades of one family do not, so each has a dash and a marker of its own. Figures are drawn in the light shades; in
the page each becomes a CSS variable, which the dark theme sets anew.
"""

from dataclasses import dataclass

FAMILY_WORDS = {
    "transformer": "Transformer",
    "ssm": "state-space model",
    "hybrid": "hybrid",
    "unknown": "unknown family",
}
DASHES: dict[str, tuple[float, ...]] = {
    "transformer": (),
    "ssm": (5, 1.8),
    "hybrid": (5, 1.6, 1.2, 1.6),
    "unknown": (1, 1.5),
}
STRETCHED = (1.0, 2.0, 0.6, 3.2)  # dashes of a family's models, one after the other
MARKERS = ("o", "s", "^", "D", "v", "P")
# light theme, dark theme
SHADES: dict[str, tuple[tuple[str, str], ...]] = {
    "transformer": (("#1f5fa8", "#79b4f2"), ("#0f8299", "#5fd0e4"), ("#4747a1", "#a9a6f5"), ("#63748a", "#b4c2d4")),
    "ssm": (("#c2410c", "#ff9c66"), ("#9a6a00", "#f2c14e"), ("#a32a52", "#f58fb0"), ("#7c4a26", "#dba77f")),
    "hybrid": (("#0b7a53", "#56cf9f"), ("#5d7a13", "#b5d657"), ("#7a3e9d", "#d3a0f0"), ("#3f6f6a", "#9accc6")),
    "unknown": (("#5c5c5c", "#b5b5b5"),),
}
INK, MUTED, GRID, PAPER = "#1b1f24", "#5a6470", "#dde1e6", "#ffffff"
CHROME = {INK: "ink", MUTED: "muted", GRID: "grid"}
CHROME_DARK = {INK: "#e8eaed", MUTED: "#a3adb8", GRID: "#363c44"}
# Parts of memory in the order of their metrics: light theme, dark theme.
PARTS: tuple[tuple[str, str], ...] = (
    ("#3d5a80", "#86a8d4"),
    ("#7796bd", "#56749c"),
    ("#c86b3c", "#f0a070"),
    ("#4f9d84", "#7fd0b5"),
    ("#a9b4c2", "#6d7986"),
    ("#8673a1", "#b8a4d6"),
    ("#d5d0c5", "#575b50"),
    ("#b9ab8f", "#7a735c"),
)
# Kinds of operators, from the bottom of a bar to its top.
KINDS: dict[str, tuple[str, str]] = {
    "gemm": ("#3d5a80", "#86a8d4"),
    "output": ("#7796bd", "#56749c"),
    "embedding": ("#c3d0e0", "#3f5167"),
    "attention": ("#c86b3c", "#f0a070"),
    "scan": ("#4f9d84", "#7fd0b5"),
    "conv": ("#9cc8a8", "#47785f"),
    "norm": ("#8673a1", "#b8a4d6"),
    "elementwise": ("#b9ab8f", "#7a735c"),
    "copy": ("#a9b4c2", "#6d7986"),
    "other": ("#d5d0c5", "#575b50"),
}
PHASE_SHADES: dict[str, tuple[str, str]] = {"prefill": ("#fbf1dc", "#3a3222"), "decode": ("#dcebf7", "#1f3547")}


@dataclass(frozen=True)
class Look:
    """How one model is drawn everywhere."""

    colour: str
    dashes: tuple[float, ...]
    marker: str

    @property
    def css(self) -> str:
        """The CSS variable of its colour."""
        return f"var(--{variable(self.colour)})"


def looks(models: list[tuple[str, str]]) -> dict[str, Look]:
    """A look for each (name, family), in the order given within each family."""
    out: dict[str, Look] = {}
    seen: dict[str, int] = {}
    for model, family in models:
        if model in out:
            continue
        i = seen.get(family, 0)
        seen[family] = i + 1
        shades = SHADES.get(family, SHADES["unknown"])
        out[model] = Look(shades[i % len(shades)][0], _dashes(family, i), MARKERS[i % len(MARKERS)])
    return out


def _dashes(family: str, i: int) -> tuple[float, ...]:
    """The family's dash, longer or shorter for each of its models; the gaps stay."""
    factor = STRETCHED[i % len(STRETCHED)]
    return tuple(x * factor if k % 2 == 0 else x for k, x in enumerate(DASHES.get(family, ())))


def _pairs() -> list[tuple[str, str]]:
    return [*(s for shades in SHADES.values() for s in shades), *PARTS, *KINDS.values(), *PHASE_SHADES.values()]


def variable(light: str) -> str:
    """The name of the CSS variable that stands for a colour of the light theme."""
    return CHROME.get(light, f"c{light[1:]}")


def css_variables(dark: bool) -> str:
    """Declarations of every colour for one theme."""
    colours = {light: shade if dark else light for light, shade in _pairs()}
    colours |= {c: CHROME_DARK[c] if dark else c for c in CHROME}
    return "".join(f"--{variable(light)}:{shown};" for light, shown in colours.items())


def known() -> tuple[str, ...]:
    """Every colour of the light theme that has a variable."""
    return (*(light for light, _ in _pairs()), *CHROME)
