"""The report in a real browser. Run by `make test-browser`, which installs what this needs and says where axe-core is.

$THAWLINE_AXE is the path of axe.min.js, $CHROMIUM that of the browser (default: chromium), $SCREENSHOTS a folder to keep
pictures in, to be looked at.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

if "THAWLINE_AXE" not in os.environ:
    pytest.skip("make test-browser runs these", allow_module_level=True)

from playwright.sync_api import Browser, Page, sync_playwright

from report_facts import HOSTILE, LABELS, made, whole
from thawline.report import render

AXE = Path(os.environ["THAWLINE_AXE"])
PHONE, DESK = 360, 1280
VIEWS = [("light", DESK), ("dark", DESK), ("light", PHONE), ("dark", PHONE)]
each_view = pytest.mark.parametrize(("scheme", "width"), VIEWS, ids=[f"{scheme}-{width}" for scheme, width in VIEWS])

# Set before anything is laid out, so that no shift is missed.
WATCH = """
window.shifts = [];
new PerformanceObserver((list) => list.getEntries().forEach((one) => shifts.push(one.value)))
  .observe({ type: "layout-shift", buffered: true });
document.addEventListener("securitypolicyviolation", (event) => (window.violated = event.violatedDirective));
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    assert path, "there is no chromium; type: apt-get install chromium"
    with sync_playwright() as playwright:
        # A container's root may not use the sandbox; the pages are our own.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render(whole(300)), "utf-8")
    return path


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "hostile.html"
    path.write_text(render(made(120, labels=HOSTILE, name=HOSTILE[0])), "utf-8")
    return path


class Opened:
    """A page with what it asked for and what it complained of."""

    def __init__(self, browser: Browser, path: Path, **context: Any) -> None:
        self.context = browser.new_context(**context)
        self.page: Page = self.context.new_page()
        self.asked: list[str] = []
        self.told: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.refused: dict[str, str | None] = {}
        self.page.on("requestfailed", lambda request: self.refused.update({request.url: request.failure}))
        self.page.on("console", lambda message: self.told.append(message.text))
        self.page.on("pageerror", lambda error: self.told.append(str(error)))
        self.page.on("dialog", lambda dialog: self.told.append(dialog.message))
        self.page.add_init_script(WATCH)
        self.page.goto(path.as_uri())

    def __enter__(self) -> "Opened":
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()


def opened(browser: Browser, path: Path, scheme: str = "light", width: int = DESK, **more: Any) -> Opened:
    return Opened(browser, path, color_scheme=scheme, viewport={"width": width, "height": 900}, **more)


@each_view
def test_nothing_shifts_and_nothing_is_asked_for(browser: Browser, report: Path, scheme: str, width: int) -> None:
    with opened(browser, report, scheme, width) as seen:
        height = seen.page.evaluate("document.documentElement.scrollHeight")
        for top in range(0, height, 800):
            seen.page.mouse.wheel(0, 800)
            seen.page.wait_for_timeout(10 if top else 200)
        assert seen.page.evaluate("shifts") == []
        assert [url for url in seen.asked if not url.startswith("data:")] == [report.as_uri()]
        assert seen.told == []
        assert seen.page.evaluate("window.violated") is None
        wide = "[...document.querySelectorAll('body *')].filter((one) => !one.closest('.scroll, .wide, svg, .skip'))"
        assert seen.page.evaluate(f"{wide}.filter((one) => one.getBoundingClientRect().right > innerWidth + 1).length") == 0
        assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        if folder := os.environ.get("SCREENSHOTS"):
            seen.page.screenshot(path=Path(folder) / f"report-{scheme}-{width}.png", full_page=True)


@pytest.mark.parametrize(("scheme", "width"), VIEWS[:3])
def test_axe_finds_nothing(browser: Browser, report: Path, scheme: str, width: int) -> None:
    with opened(browser, report, scheme, width) as seen:
        seen.page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
        # Axe does not judge the contrast of what is scrolled out of sight, nor on the gradients at the edges of tables.
        flat = "Object.assign(one.style, { background: 'none', overflow: 'visible' })"
        seen.page.evaluate(f"document.querySelectorAll('.scroll').forEach((one) => {flat})")
        seen.page.evaluate(AXE.read_text("utf-8"))
        found = seen.page.evaluate("axe.run()")
        assert [(one["impact"], one["id"], one["nodes"][0]["html"][:200]) for one in found["violations"]] == []
        unsure = [node["html"] for one in found["incomplete"] for node in one["nodes"] if not node["html"].startswith("<text")]
        assert unsure == [] or width == PHONE  # where tables lie over one another without their scrolling


def test_words_are_large_enough_on_a_phone(browser: Browser, report: Path) -> None:
    """What is drawn is shrunk to the width of the phone."""
    sizes = """[...document.querySelectorAll("svg text")].map((one) => {
      const { a, b } = one.getScreenCTM();  // turned by some angle
      return parseFloat(getComputedStyle(one).fontSize) * Math.hypot(a, b);
    })"""
    with opened(browser, report, width=PHONE) as seen:
        assert min(seen.page.evaluate(sizes)) > 9  # pixels


def test_a_table_is_sorted_by_a_click_and_by_the_keyboard(browser: Browser, report: Path) -> None:
    with opened(browser, report) as seen:
        table = seen.page.locator("#classes table").first
        support = table.get_by_role("button", name="examples")

        def column() -> list[int]:
            return [int(text.replace(",", "")) for text in table.locator("tbody tr td:nth-child(2)").all_inner_texts()]

        before = column()
        support.click()
        assert column() == sorted(before)
        assert table.locator("th[aria-sort=ascending]").count() == 1
        support.press("Enter")
        assert column() == sorted(before, reverse=True)
        table.get_by_role("button", name="class").click()
        assert table.locator("tbody th").all_inner_texts() == sorted(LABELS)
        assert seen.page.evaluate("shifts") == []


def test_it_is_whole_without_scripts(browser: Browser, report: Path) -> None:
    with opened(browser, report, java_script_enabled=False) as seen:
        assert seen.page.locator("section").count() >= 10
        assert seen.page.locator("#classes tbody tr").count() >= len(LABELS)
        assert seen.page.locator("figure svg").first.is_visible()


def test_labels_and_texts_do_not_run(browser: Browser, hostile: Path) -> None:
    with opened(browser, hostile) as seen:
        assert seen.page.locator("b").count() == 0
        assert seen.page.evaluate("typeof hacked") == "undefined"
        assert seen.page.locator("script").count() == 1
        assert (seen.told, [url for url in seen.asked if not url.startswith("data:")]) == ([], [hostile.as_uri()])


def test_the_policy_holds_even_where_markup_gets_in(browser: Browser, report: Path, tmp_path: Path) -> None:
    """The second lock: were something not escaped, the browser would still refuse to run it or to fetch it."""
    page = tmp_path / "broken.html"
    inside = '<main id="main"><script>hacked=1</script><img src="https://example.org/x.png" onerror="hacked=1">'
    page.write_text(report.read_text("utf-8").replace('<main id="main">', inside), "utf-8")
    with opened(browser, page) as seen:
        assert seen.page.evaluate("typeof hacked") == "undefined"
        assert seen.refused == {"https://example.org/x.png": "csp"}


def test_it_prints(browser: Browser, report: Path, tmp_path: Path) -> None:
    with opened(browser, report, scheme="dark") as seen:
        paper = seen.page.pdf(format="A4")
        assert paper.startswith(b"%PDF") and 20_000 < len(paper) < 5_000_000
        seen.page.emulate_media(media="print", color_scheme="dark")
        assert seen.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        seen.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert seen.page.locator("details:not([open])").count() == 0
        if folder := os.environ.get("SCREENSHOTS"):
            (Path(folder) / "report.pdf").write_bytes(paper)


def test_regions_lie_over_their_picture_and_below_their_sound(browser: Browser, report: Path) -> None:
    box = "(one) => (({ x, y, width, height, bottom }) => [x, y, width, height, bottom])(one.getBoundingClientRect())"
    with opened(browser, report) as seen:
        seen.page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
        media = seen.page.locator(".media")
        picture, over, sound, strip = (
            media.locator(name).first.evaluate(box) for name in ("img", "svg.over", "audio", "svg.strip")
        )
        assert over == picture and over[2:4] == [160, 160]
        assert strip[0] == sound[0] and strip[1] >= sound[4] and strip[2] > 160 and strip[3] == 10
        assert media.locator("svg.over rect").first.is_visible() and media.locator("svg.strip rect").first.is_visible()
