"""A reviewer at the bot's own page in headless Chromium: signs in at the issuer stand-in, reads the request, decides.

decide.py CHROMIUM URL FOLDER LOGIN TEXT [BUTTON [REASON]]

Opens URL, signs in as LOGIN, waits for the page that shows TEXT, takes FOLDER/page.png, writes REASON where one is given, presses BUTTON,
takes FOLDER/decided.png, and prints what both pages said as JSON. Without BUTTON, URL is the link a press in Slack was answered with: what
shows TEXT is read first, and signing in is what approves.
"""

import json
import os
import sys
import time

from page import Browser


def main():
    program, url, folder, login, text, *rest = sys.argv[1:]
    button, reason = (rest or [None])[0], rest[1:]
    browser = Browser(program)
    browser.call("Emulation.setDeviceMetricsOverride", width=1120, height=1130, deviceScaleFactor=1, mobile=False)
    browser.call("Page.navigate", url=url)
    button_of = lambda label: f"[...document.querySelectorAll('button')].find(button => button.innerText === {json.dumps(label)})"
    # Behind this call: pressing leads elsewhere, and the answer would be lost with the page.
    press = lambda label: browser.run(f"const pressed = {button_of(label)}; setTimeout(() => pressed.click(), 0)")

    def until(script, what, seconds=60):
        end = time.monotonic() + seconds
        while True:
            try:
                if browser.run(script):
                    return
            except SystemExit as error:
                # Between two pages there is nothing to ask.
                if time.monotonic() > end:
                    raise error
            if time.monotonic() > end:
                raise SystemExit(f"{what}: not within {seconds} s; the page says: {browser.run('document.body?.innerText')}")
            time.sleep(0.1)

    says = lambda text: f"(document.body?.innerText ?? '').includes({json.dumps(text)})"
    begin = "Sign in" if button else "Sign in and approve"
    until(f"!!({button_of(begin)})", "the way to sign in")
    if not button:
        until(says(text), f"the page with `{text}`")
        before = browser.run("document.body.innerText")
        browser.screenshot(os.path.join(folder, "page.png"))
    press(begin)
    until(f"!!document.querySelector('input[name=login]') && !!({button_of('Sign in')})", "the issuer's form")
    browser.run(f"document.querySelector('input[name=login]').value = {json.dumps(login)}")
    press("Sign in")
    if button:
        until(f"{says(text)} && !!({button_of(button)})", f"the page with `{text}` and `{button}`")
        before = browser.run("document.body.innerText")
        browser.screenshot(os.path.join(folder, "page.png"))
        if reason:
            browser.run(f"document.querySelector('textarea').value = {json.dumps(reason[0])}")
        press(button)
        until("document.title.startsWith('Done')", "the answer")
    else:
        until("/^(Done|Nothing was decided)/.test(document.title)", "the answer")
    browser.screenshot(os.path.join(folder, "decided.png"))
    print(json.dumps({"before": before, "after": browser.run("document.body.innerText"), "scripts": browser.run("document.scripts.length")}))
    browser.close()


main()
