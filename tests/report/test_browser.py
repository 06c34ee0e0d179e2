"""The page in a real browser: nothing breaks, overflows, calls out or executes; sorting sorts."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

import melt
from melt.report import write_report
from melt.store.manifest import Flag, RunFailure
from tests.support.store_factory import (
    CONTEXTS,
    FALCON_H1,
    MAMBA,
    MAMBA2,
    SMOLLM,
    FakeModel,
    Recipe,
    write_run,
    write_store,
)

ARGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
HOSTILE = (
    "<script>document.title='owned'</script>",
    '"><img src=x onerror="document.title=\'owned\'">',
    "$x^2$ \\frac{",
    "\x1b[31mred\x1b[0m \u202egnp.exe",
    "{{ 7*7 }}{% raw %}",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    assert chromium, "chromium is not installed: `make test` installs it"
    with sync_playwright() as playwright:
        one = playwright.chromium.launch(executable_path=chromium, args=ARGS.split())
        yield one
        one.close()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of everything at once: pairs, energy, operators, failures, flags."""
    folder = tmp_path_factory.mktemp("demo")
    recipe = Recipe(power_w=(3.0, 12.0, 9.0), ops=True, gen_tokens=64)
    write_store(folder / "results", models=(SMOLLM, MAMBA, MAMBA2, FALCON_H1), contexts=CONTEXTS[:4], recipe=recipe)
    failure = RunFailure(kind="killed", message="SIGKILL; the kernel's log names the out-of-memory killer")
    write_run(folder / "results", SMOLLM, 16384, recipe=Recipe(status="failed", error=failure))
    flag = Flag(name="charging", evidence="battery:BAT0:charging says so")
    write_run(folder / "results", SMOLLM, 128, 7, Recipe(flags=(flag,), gen_tokens=64))
    return write_report(melt.load(folder / "results"), folder / "report")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report in which every name is an attack."""
    folder = tmp_path_factory.mktemp("hostile")
    for i, text in enumerate(HOSTILE):
        model = FakeModel(text, ("transformer", "ssm", "hybrid")[i % 3], text, 10**8, 3e-3, 0, 0.01, 0, 0, 2**20)
        for context in (128, 512):
            recipe = Recipe(device=text, flags=(Flag(name=text, evidence=text),), passport={text: text})
            write_run(folder / "results", model, context, recipe=recipe)
            write_run(folder / "results", model, context, 1, Recipe(device=HOSTILE[0], status="failed"))
    return write_report(melt.load(folder / "results"), folder / "report")


def opened(browser: Browser, index: Path, width: int = 1280, scheme: str = "light") -> tuple[Page, list[str]]:
    """A page, and what it had to complain about or asked for."""
    complaints: list[str] = []
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "request",
        lambda request: (
            complaints.append(request.url) if not request.url.startswith((index.as_uri(), "data:")) else None
        ),
    )
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.goto(index.as_uri())
    for closed in page.query_selector_all("details:not([open])"):
        closed.evaluate("element => element.open = true")
    return page, complaints


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("which", ["demo", "hostile"])
def test_page_is_quiet_and_fits(
    browser: Browser, request: pytest.FixtureRequest, which: str, width: int, scheme: str
) -> None:
    page, complaints = opened(browser, request.getfixturevalue(which), width, scheme)
    assert complaints == []
    assert page.title().endswith("– melt")
    assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    page.close()


def test_names_appear_as_text_and_nothing_runs(browser: Browser, hostile: Path) -> None:
    page, _ = opened(browser, hostile)
    shown = page.inner_text("body")
    assert "<script>document.title='owned'</script>" in shown
    assert "onerror=" in shown
    assert "$x^2$ \\frac{" in shown
    assert "{{ 7*7 }}" in shown
    assert "\x1b" not in page.content()
    assert "\u202e" not in page.content()
    assert page.query_selector("img") is None
    assert page.evaluate("document.querySelectorAll('script').length") == 1
    page.close()


def column(page: Page, table: str, index: int) -> list[str]:
    return [
        cell.evaluate("c => c.dataset.key ?? c.textContent")
        for cell in page.query_selector_all(f"#table-{table} tbody td:nth-child({index + 1})")
    ]


def test_sorting_by_number_puts_missing_last(browser: Browser, demo: Path) -> None:
    page, _ = opened(browser, demo)
    headings = [h.inner_text().strip() for h in page.query_selector_all("#table-runs th")]
    at = headings.index("TTFT")
    heading = page.query_selector_all("#table-runs th")[at]
    assert heading.get_attribute("aria-sort") == "none"
    for direction, sign in (("ascending", 1), ("descending", -1)):
        heading.query_selector("button").click()  # type: ignore[union-attr]
        assert heading.get_attribute("aria-sort") == direction
        keys = column(page, "runs", at)
        numbers = [sign * float(k) for k in keys if k]
        assert numbers == sorted(numbers)
        assert len(numbers) == len(keys) - 1
        assert keys[-1] == ""
    page.close()


def test_sorting_by_text_works_from_the_keyboard(browser: Browser, demo: Path) -> None:
    page, _ = opened(browser, demo)
    page.focus("#table-cells th:first-child button")
    page.keyboard.press("Enter")
    names = column(page, "cells", 0)
    assert names == sorted(names)
    page.keyboard.press("Enter")
    assert column(page, "cells", 0) == sorted(names, reverse=True)
    page.close()


CONTRAST = """() => {
  const channel = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const parse = (c) => c.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] > 0) return c;
    }
    return [255, 255, 255];
  };
  const worst = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || ["SCRIPT", "STYLE", "TITLE"].includes(e.tagName.toUpperCase()) || !e.getClientRects().length) continue;
    const style = getComputedStyle(e);
    const ink = light(parse(e.closest("svg") ? style.fill : style.color)), paper = light(behind(e));
    const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
    if (ratio < 4.5) worst.push([ratio.toFixed(2), e.tagName, e.textContent.trim().slice(0, 30)].join(" "));
  }
  return worst;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_is_readable(browser: Browser, demo: Path, scheme: str) -> None:
    page, _ = opened(browser, demo, scheme=scheme)
    assert page.evaluate(CONTRAST) == []
    page.close()


def test_page_prints(browser: Browser, demo: Path) -> None:
    page, _ = opened(browser, demo)
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.close()


def test_links_lead_to_files_and_places_that_exist(browser: Browser, demo: Path) -> None:
    page, _ = opened(browser, demo)
    for href in {str(a.get_attribute("href")) for a in page.query_selector_all("a")}:
        if href.startswith("#"):
            assert page.query_selector(f'[id="{href[1:]}"]'), href
        else:
            assert (demo.parent / href).is_file(), href
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    page.close()
