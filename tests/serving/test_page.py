"""The page in a real browser: a picture is chosen, words are asked, masks and names are shown."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import save_picture

from xdecoder_rt import Engine
from xdecoder_rt.serving.app import Service, make_app

pytestmark = pytest.mark.slow
BROWSER, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
PATIENCE = 120.0


@pytest.fixture(scope="module")
def address(engine: Engine) -> Iterator[str]:
    uvicorn = pytest.importorskip("uvicorn", reason="serving needs the extra serve")
    app = make_app(Service({"tiny": engine}))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module", params=[(1200, 900), (390, 844)], ids=["desk", "phone"])
def browser(request: pytest.FixtureRequest) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium drives the browser")
    if BROWSER is None or DRIVER is None:
        pytest.skip("there is no chromium with its driver")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    width, height = request.param
    for option in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(option)
    options.add_argument(f"--window-size={width},{height}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def until(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return value


def pixels(browser: Any) -> str:
    data: str = browser.execute_script("return document.getElementById('view').toDataURL()")
    return data


def test_a_picture_is_asked_about_by_keyboard_and_what_is_found_is_drawn_and_named(
    browser: Any, address: str, engine: Engine, tmp_path: Path
) -> None:
    photo = save_picture(tmp_path / "photo.png")
    browser.get(address)

    def element(name: str) -> Any:
        return browser.find_element("id", name)

    until(lambda: element("plan").text == "tiny")
    element("file").send_keys(str(photo))
    until(lambda: "Type words" in element("status").text)
    assert browser.switch_to.active_element.get_attribute("id") == "words"
    bare = pixels(browser)
    browser.switch_to.active_element.send_keys("mug, robot arm\n")
    until(lambda: "found in" in element("status").text)
    truth = engine.segment(photo, ["mug", "robot arm"])
    lines = [item.text for item in browser.find_elements("css selector", "#found li")]
    assert [line.partition(":")[0] for line in lines] == [s["label"] for s in truth.segments_info]
    assert pixels(browser) != bare
    for box in browser.find_elements("css selector", "#found input"):
        box.send_keys(" ")  # each is hidden by the space bar
    assert pixels(browser) == bare
    element("question").send_keys("is it open?")
    element("choices").send_keys("yes, no\n")
    until(lambda: "Answer: " in element("said").text)
    answer = engine.answer(photo, "is it open?", ["yes", "no"])
    assert element("said").text.startswith(f"Answer: {answer.text} ")
    wide = browser.execute_script(
        "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    assert wide == 0  # nothing to be scrolled sideways, on a phone neither
    problems = [e for e in browser.get_log("browser") if "favicon" not in e["message"]]
    assert not problems


def test_what_the_service_refuses_is_said_on_the_page(
    browser: Any, address: str, tmp_path: Path
) -> None:
    browser.get(address)
    browser.find_element("id", "file").send_keys(str(save_picture(tmp_path / "photo.png")))
    status = browser.find_element("id", "status")
    until(lambda: "Type words" in status.text)
    browser.find_element("id", "words").send_keys("mug, mug\n")
    until(lambda: "twice" in status.text)
    assert "error" in status.get_attribute("class")
