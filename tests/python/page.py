"""Drives the Slack look-alike's page in headless Chromium, as a reviewer would: reads a card, presses a button, writes into the form.

page.py CHROMIUM URL FOLDER USER TEXT BUTTON [REASON]

Waits for the card that shows TEXT, takes FOLDER/before.png, becomes USER, presses BUTTON on that card, fills the form with REASON where one
opens, waits until the card has no buttons any more, takes FOLDER/after.png, and prints what the card said before and after as JSON.
Speaks the DevTools protocol over a pipe, so nothing but Chromium and the standard library is needed.
https://chromedevtools.github.io/devtools-protocol/
"""

import base64
import json
import os
import subprocess
import sys
import tempfile
import time


class Browser:
    def __init__(self, program):
        to_browser, self.write = os.pipe()
        self.read, from_browser = os.pipe()
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        flags = [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
            "--window-size=1120,1000", "--force-color-profile=srgb", f"--user-data-dir={self.profile.name}", "--remote-debugging-pipe",
        ]
        # The protocol's pipe is file descriptors 3 and 4.
        shell = f'exec "$0" "$@" 3<&{to_browser} 4>&{from_browser}'
        self.process = subprocess.Popen(
            ["sh", "-c", shell, program, *flags, "about:blank"],
            pass_fds=(to_browser, from_browser), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self.buffer, self.serial, self.session = b"", 0, None
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]

    def call(self, method, **parameters):
        self.serial += 1
        message = {"id": self.serial, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self.buffer:
                chunk = os.read(self.read, 1 << 20)
                if not chunk:
                    raise SystemExit("chromium ended")
                self.buffer += chunk
            text, self.buffer = self.buffer.split(b"\0", 1)
            answer = json.loads(text)
            if answer.get("id") == self.serial:
                if "error" in answer:
                    raise SystemExit(f"{method}: {answer['error']}")
                return answer["result"]

    def run(self, script):
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise SystemExit(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def until(self, script, what, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            value = self.run(script)
            if value:
                return value
            time.sleep(0.1)
        raise SystemExit(f"{what}: not within {seconds} s; presses: {self.run('JSON.stringify(window.presses)')}; the page says: {self.run('document.body.innerText')}")

    def screenshot(self, path):
        with open(path, "wb") as file:
            file.write(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def close(self):
        self.call("Browser.close")
        self.process.wait(10)
        self.profile.cleanup()


def main():
    program, url, folder, user, text, button, *reason = sys.argv[1:]
    browser = Browser(program)
    browser.call("Page.navigate", url=url)
    # What the page's presses came to, for the message when the card does not follow.
    remember = """
        window.presses = []; const own = window.fetch;
        window.fetch = async (...call) => {
            const note = [String(call[0]), "sent"];
            if (call[1]?.method === "POST") window.presses.push(note);
            const answer = await own(...call);
            if (call[1]?.method === "POST") { note[1] = answer.status; note.push(await answer.clone().text()); }
            return answer;
        }; true"""
    # The newest card that shows the text.
    card = f"[...document.querySelectorAll('.message')].filter(card => card.innerText.includes({json.dumps(text)})).pop()"
    browser.until(f"document.readyState === 'complete' && !!document.getElementById('user')", "the page")
    browser.run(remember)
    browser.run(f"const who = document.getElementById('user'); who.value = {json.dumps(user)}; who.onchange()")
    wanted = f"[...({card})?.querySelectorAll('button') ?? []].find(button => button.innerText === {json.dumps(button)})"
    browser.until(f"!!({wanted})", f"a card with `{text}` and a button `{button}`")
    browser.run(f"({card}).scrollIntoView({{block: 'end'}})")
    before = browser.run(f"({card}).innerText")
    browser.screenshot(os.path.join(folder, "before.png"))
    browser.run(f"({wanted}).click()")
    if reason:
        browser.until("!!document.querySelector('.modal textarea')", "the form")
        browser.run(f"document.querySelector('.modal textarea').value = {json.dumps(reason[0])}")
        browser.screenshot(os.path.join(folder, "form.png"))
        browser.run("document.querySelector('.modal form, form.modal').requestSubmit()")
    browser.until(f"({card}) && !({card}).querySelector('button')", "the card after the decision")
    browser.until(f"/Approved, done|Denied/.test(({card}).innerText)", "the last state of the card")
    browser.run(f"({card}).scrollIntoView({{block: 'end'}})")
    browser.screenshot(os.path.join(folder, "after.png"))
    print(json.dumps({"before": before, "after": browser.run(f"({card}).innerText")}))
    browser.close()


if __name__ == "__main__":
    main()
