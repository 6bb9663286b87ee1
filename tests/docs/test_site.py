"""The built site as a reader meets it, in headless Chromium: `hatch run docs:browse`.

It needs what `hatch run docs:build` has built, Playwright's Python (of the environment
`docs`) and Debian's `chromium`. Where one of them is missing nothing here is run, and
pytest says so.
"""

import contextlib
import functools
import http.server
import re
import shutil
import threading
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import pytest

ROOT = Path(__file__).parents[2]
SITE = ROOT / "site"
CHROMIUM = shutil.which("chromium")

playwright = pytest.importorskip(
    "playwright.sync_api", reason="NOT RUN: needs Playwright; use hatch run docs:browse"
)
if CHROMIUM is None:
    pytest.skip(
        "NOT RUN: needs Chromium; on Debian apt-get install chromium",
        allow_module_level=True,
    )
if not SITE.is_dir():
    pytest.skip(
        "NOT RUN: needs the site; hatch run docs:build", allow_module_level=True
    )

PAGES = sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html"))
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}

# Links and anchors: of the files, no browser needed


class _Parts(HTMLParser):
    """What a page has to link to, what it links to, and what it loads."""

    def __init__(self, text: str):
        super().__init__()
        self.anchors, self.links, self.loads = {"", "__skip"}, set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.anchors |= {given[key] for key in ("id", "name") if given.get(key)}
        if tag == "a" and given.get("href"):
            self.links.add(given["href"])
        if tag in ("script", "img", "iframe", "source") and given.get("src"):
            self.loads.add(given["src"])
        if tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload"):
            self.loads.add(given["href"])


@pytest.fixture(scope="module")
def parts():
    return {page: _Parts((SITE / page).read_text()) for page in PAGES}


def _local(page: str, link: str) -> tuple[str, str] | None:
    """The file and the anchor that a link within the site means."""
    if urlsplit(link).scheme or link.startswith("//"):
        return None
    target, anchor = urldefrag(urljoin(f"/{page}", link))
    return unquote(target).removeprefix("/") or "index.html", unquote(anchor)


def test_links(parts):
    broken = []
    for page, its in parts.items():
        for link in its.links | its.loads:
            if page == "404.html" or (local := _local(page, link)) is None:
                continue
            target, anchor = local
            if target.endswith("/"):
                target += "index.html"
            if not (SITE / target).is_file():
                broken.append(f"{page}: {link}")
            elif target in parts and anchor not in parts[target].anchors:
                broken.append(f"{page}: {link} (no such anchor)")
    assert not broken, "\n".join(broken)


def test_no_part_is_twice(parts):
    """No page has one id twice: pictures are parts of the page."""
    for page in PAGES:
        ids = re.findall(r'\sid="([^"]+)"', (SITE / page).read_text())
        twice = {name for name in ids if ids.count(name) > 1}
        assert not {name for name in twice if not name.startswith("__")}, page


def test_loads_nothing_from_elsewhere(parts):
    elsewhere = {
        (page, url) for page, its in parts.items() for url in its.loads if "//" in url
    }
    assert not elsewhere


# In the browser


@pytest.fixture(scope="module")
def address():
    """The site on this machine's own address."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(SITE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with playwright.sync_playwright() as run:
        context = run.chromium.launch_persistent_context(
            str(tmp_path_factory.mktemp("profile")),
            executable_path=CHROMIUM,
            headless=True,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ],
            viewport=WIDE,
        )
        yield context
        context.close()


class _Visit:
    """A page that keeps what it complains of, and whom it asks."""

    def __init__(self, tab, address):
        self.tab, self.address = tab, address
        self.complaints, self.elsewhere = [], []
        tab.on("console", self._said)
        tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        tab.on("request", self._asked)
        tab.on("requestfailed", lambda r: self.complaints.append(f"failed: {r.url}"))

    def _said(self, message):
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _asked(self, request):
        if not request.url.startswith((self.address, "data:", "blob:", "file:")):
            self.elsewhere.append(request.url)


@pytest.fixture
def visit(browser, address):
    tab = browser.new_page()
    yield _Visit(tab, address)
    tab.close()


_OVERFLOW = """() => {
    const root = document.documentElement
    return root.scrollWidth - root.clientWidth
}"""
_SHOWN = """() => [...document.querySelectorAll(
    "math[display=block], .drawn svg, article img"
)].filter(part => {
    const box = part.getBoundingClientRect()
    return box.width < 20 || box.height < 10
}).length"""
# of running text, links and the labels of pictures: the least contrast with what is
# behind them, as WCAG 2.2 defines it
_CONTRAST = """() => {
    const rgb = colour => colour.match(/[\\d.]+/g).map(Number)
    const light = ([r, g, b]) => {
        const part = v => (v /= 255) <= 0.03928
            ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4
        return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b)
    }
    const behind = part => {
        for (; part; part = part.parentElement) {
            const colour = rgb(getComputedStyle(part).backgroundColor)
            if (colour.length < 4 || colour[3] > 0.5) return colour
        }
        return [255, 255, 255]
    }
    let least = 21
    for (const part of document.querySelectorAll(
        "article :is(h1, h2, h3, p, td, li, a, math), .drawn svg text"
    )) {
        if (!part.textContent.trim() || part.closest(".headerlink")) continue
        const svg = part.closest("svg")
        const style = getComputedStyle(part)
        const ink = rgb(svg ? style.fill : style.color)
        const alpha = ink.length > 3 ? ink[3] : 1
        const ground = behind(svg ? svg.parentElement : part)
        const seen = ground.slice(0, 3).map((g, i) => alpha * ink[i] + (1 - alpha) * g)
        const [a, b] = [light(seen), light(ground)].sort((x, y) => y - x)
        least = Math.min(least, (a + 0.05) / (b + 0.05))
    }
    return least
}"""


def test_pages(visit):
    """Every page, light and dark, wide and on a phone: no complaint, nobody asked, no
    sideways scrolling, mathematics and pictures shown, text that can be read."""
    tab, faults = visit.tab, []
    for page in PAGES:
        visit.complaints.clear()
        tab.set_viewport_size(WIDE)
        tab.goto(visit.address + page, wait_until="load")
        tab.add_style_tag(content="* { transition: none !important }")
        for scheme in ("default", "slate"):  # light and dark
            tab.evaluate(f"document.body.dataset.mdColorScheme = '{scheme}'")
            contrast = tab.evaluate(_CONTRAST)
            if contrast < 4.5:  # WCAG's AA
                faults.append(f"{page}, {scheme}: contrast {contrast:.2f}")
        for width in (WIDE, PHONE):
            tab.set_viewport_size(width)
            if (over := tab.evaluate(_OVERFLOW)) > 0:
                faults.append(f"{page}, {width['width']} wide: {over} too wide")
            if hidden := tab.evaluate(_SHOWN):
                faults.append(f"{page}, {width['width']} wide: {hidden} not shown")
        faults += [f"{page}: {text}" for text in visit.complaints]
    assert not faults, "\n".join(faults)
    assert not visit.elsewhere


def test_mathematics_and_pictures(visit):
    """They are there: MathML, drawn by the browser, and pictures in the page."""
    visit.tab.goto(visit.address + "start/first-solve.html")
    fraction = visit.tab.locator("math[display=block] mfrac").first.bounding_box()
    assert fraction["height"] > 25  # numerator above denominator
    for script in (ROOT / "docs" / "pictures").glob("*.py"):
        pages = [p for p in PAGES if f'id="{script.stem}-' in (SITE / p).read_text()]
        assert pages, f"{script.name} is on no page"


def _public_names():
    text = "".join(page.read_text() for page in (ROOT / "docs" / "api").glob("*.md"))
    return sorted({n.rpartition(".")[2] for n in re.findall(r"^::: (\S+)", text, re.M)})


def _search(tab, name):
    """Where a search for this name leads: the fragments of the links it finds."""
    field = tab.locator(".md-search__input")
    field.fill(name)
    field.press("End")
    with contextlib.suppress(playwright.TimeoutError):
        tab.wait_for_function(
            """name => [...document.querySelectorAll(".md-search-result__link")].some(
                link => decodeURIComponent(link.hash).endsWith("." + name))""",
            arg=name,
            timeout=5000,
        )
    links = tab.locator(".md-search-result__link")
    return links.evaluate_all("all => all.map(link => decodeURIComponent(link.hash))")


def test_search(visit):
    """A search for a public name finds its place in the reference."""
    tab, lost = visit.tab, []
    tab.goto(visit.address)
    tab.locator(".md-search__input").click()
    for name in _public_names():
        found = _search(tab, name)
        if not any(anchor.endswith(f".{name}") for anchor in found):
            lost.append(name)
    assert not lost
    assert not visit.complaints and not visit.elsewhere


# What people type, and the page that is to come first.
WORDS = {
    "ridge": "jobs/ridge.html",
    "Tikhonov": "jobs/ridge.html",
    "pinv": "coming-from/jax-numpy.html",
    "lstsq": "coming-from/jax-numpy.html",
    "inv": "coming-from/jax-numpy.html",
    "sparse": "guides/sparse.html",
    "CSR": "guides/sparse.html",
    "KKT": "jobs/kkt-stokes.html",
    "Stokes": "jobs/kkt-stokes.html",
    "least norm": "guides/least-squares.html",
    "condition number": "guides/debugging.html",
    "convergence": "guides/debugging.html",
    "NaN": "guides/debugging.html",
    "out of memory": "guides/debugging.html",
}


def test_search_for_words(visit):
    """A search for a word of the field has the right page first."""
    tab, wrong = visit.tab, {}
    tab.goto(visit.address)
    tab.locator(".md-search__input").click()
    for words, page in WORDS.items():
        field = tab.locator(".md-search__input")
        field.fill("")
        field.fill(words)
        field.press("End")
        first = tab.locator(".md-search-result__link").first
        with contextlib.suppress(playwright.TimeoutError):
            tab.wait_for_function(
                """page => {
                    const link = document.querySelector(".md-search-result__link")
                    return link && link.pathname.endsWith(page)
                }""",
                arg=page,
                timeout=5000,
            )
        found = first.evaluate("link => link.pathname")
        if not found.endswith(page):
            wrong[words] = found
    assert not wrong


_TABLES = """() => [...document.querySelectorAll(".md-typeset__scrollwrap")].map(
    wrap => ({
        over: wrap.scrollWidth - wrap.clientWidth,
        shadow: getComputedStyle(wrap).backgroundImage !== "none",
    }))"""


def test_tables(visit):
    """At 1280 the tables of the pages that people come by fit; those that do not fit
    scroll, and a shadow shows it."""
    tab, faults = visit.tab, []
    tab.set_viewport_size(WIDE)
    for page in [p for p in PAGES if p.startswith(("coming-from", "guides", "jobs"))]:
        tab.goto(visit.address + page, wait_until="load")
        for table in tab.evaluate(_TABLES):
            if table["over"] > 0 and (
                not table["shadow"] or page.startswith("coming-from")
            ):
                faults.append((page, table))
    assert not faults


def test_returns(visit):
    """What a function returns is one item, however many lines say it."""
    tab = visit.tab
    tab.goto(visit.address + "api/solving.html")
    items = tab.evaluate(
        """() => [...document.querySelectorAll(".doc-section-returns, p")]
            .filter(p => p.textContent.trim().startsWith("Returns:"))
            .map(p => (p.nextElementSibling || p).querySelectorAll("li").length)"""
    )
    assert items and max(items) == 1


def test_search_without_a_server(visit):
    """Opened as files, the site searches too."""
    tab = visit.tab
    tab.goto((SITE / "index.html").as_uri())
    tab.locator(".md-search__input").click()
    assert "#lineax.MINRES" in _search(tab, "MINRES")
    assert not visit.complaints and not visit.elsewhere


def test_toggle(visit):
    """A reader's own choice of light or dark holds on the next page."""
    tab = visit.tab
    tab.emulate_media(color_scheme="light")
    tab.goto(visit.address)
    tab.locator("label[title=Dark]").click()
    tab.wait_for_function("document.body.dataset.mdColorScheme === 'slate'")
    tab.goto(visit.address + "choose.html")
    assert tab.evaluate("document.body.dataset.mdColorScheme") == "slate"
