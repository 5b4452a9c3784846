"""Pages in the browser of this machine; the fixture `browser` is in conftest.py."""

import base64
import re

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class Window:
    """A window of the browser, with the console messages and the requested addresses since `open`."""

    def __init__(self, browser, **options):
        self.tab = browser.new_page(**options)
        self.tab.set_default_timeout(0)  # a busy machine is no fault
        self.console, self.requests = [], []
        self.tab.on("console", lambda message: self.console.append(message.text))
        self.tab.on("pageerror", lambda error: self.console.append(str(error)))
        self.tab.on("request", lambda request: self.requests.append(request.url))

    def open(self, path):
        self.console.clear()
        self.requests.clear()
        self.tab.goto(path.as_uri())

    def heading(self, table, column):
        return self.tab.locator(f"#{table} thead tr:last-child > :nth-child({column + 1})")

    def column(self, table, column):
        """Texts of a column of the body, top to bottom."""
        return self.tab.locator(f"#{table} tbody tr > :nth-child({column + 1})").all_text_contents()

    def font_sizes(self):
        """The smallest font of every figure, in pixels of the screen; all figures are SVGs."""
        images = self.tab.eval_on_selector_all(
            "img", "all => all.map(i => [i.src, i.clientWidth / i.getAttribute('width')])"
        )
        sizes = []
        for source, scale in images:
            content = base64.b64decode(source.removeprefix("data:image/svg+xml;base64,")).decode()
            found = [float(size) for size in re.findall(r"\bfont(?:-size)?: [^;\"]*?([\d.]+)px", content)]
            sizes.append(min(found) * scale)
        return sizes
