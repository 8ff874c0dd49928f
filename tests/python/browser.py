"""Drives a real Chromium: reads a JSON object a line on standard input, does what it says, and answers with one.

`{"do": "goto", "url": …}`, `texts`, `count`, `click`, `fill`, `press`, `evaluate`, `wait` (until a selector's text contains
one), `look` (width, height, dark), `picture`. The answer is `{"result": …}` or `{"error": …}`. At the end of the input the
browser ends. What the console has said and what the page's policy has forbidden is the result of `trouble`.
"""

import json
import os
import sys

from playwright.sync_api import Error, sync_playwright


def main():
    chromium = sys.argv[1]
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        context = browser.new_context(reduced_motion="reduce")
        page = context.new_page()
        page.set_default_timeout(30_000)
        trouble = []
        page.on("console", lambda said: said.type == "error" and trouble.append(said.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("dialog", lambda dialog: (trouble.append(dialog.message), dialog.dismiss()))

        def look(asked):
            page.set_viewport_size({"width": asked["width"], "height": asked["height"]})
            page.emulate_media(color_scheme="dark" if asked["dark"] else "light")

        actions = {
            "goto": lambda a: page.goto(a["url"]).status,
            "texts": lambda a: [text.strip() for text in page.locator(a["at"]).all_inner_texts()],
            "count": lambda a: page.locator(a["at"]).count(),
            "click": lambda a: page.locator(a["at"]).first.click(),
            "fill": lambda a: page.locator(a["at"]).fill(a["text"]),
            "press": lambda a: page.keyboard.press(a["key"]),
            "evaluate": lambda a: page.evaluate(a["script"]),
            "wait": lambda a: page.locator(a["at"]).filter(has_text=a["text"]).first.wait_for(),
            "look": look,
            "picture": lambda a: page.screenshot(path=a["path"], full_page=a.get("whole", False)) and None,
            "trouble": lambda _: trouble,
        }
        print(json.dumps({"result": browser.version}), flush=True)
        for line in sys.stdin:
            asked = json.loads(line)
            try:
                answer = {"result": actions[asked["do"]](asked)}
            except Error as error:
                answer = {"error": f"{asked}: {error.message}\n{page.url}\n{page.locator('body').inner_text()}"}
            print(json.dumps(answer), flush=True)
        browser.close()


main()
